from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import ConfigError, StoreError
from dicom_node.pixels.geometry import to_network
from tests.support.folds import LABELS, lines, written
from training.config import Size
from training.folds import frames
from training.folds.frames import FoldedFrames

SIZE = Size(height=64, width=64)


def read(index: Path, **how: str) -> FoldedFrames:
    return frames.read(index, **({"labels": LABELS} | how), size=SIZE)


def test_frames_know_their_clip_their_class_and_their_fold(folded: FoldedFrames) -> None:
    assert folded.names == [0, 1, 2]
    rows = folded.pack.rows
    assert len(rows) == 54
    assert len(np.unique(rows.instance)) == 18
    for clip in np.unique(rows.instance):
        assert len(np.unique(rows.class_index[rows.instance == clip])) == 1
        assert len(np.unique(folded.folds[rows.instance == clip])) == 1
    # classes are brighter from one to the next
    means = [folded.pack.frames[rows.class_index == place].mean() for place in range(3)]
    assert means == sorted(means)


def test_frames_of_a_clip_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    index = written(tmp_path, lines())
    known = read(index).pack
    first, *others = index.read_text().splitlines()
    index.write_text("\n".join([first, *reversed(others)]))
    assert np.array_equal(read(index).pack.frames, known.frames)
    # as text, frame 10 would come before frame 9
    with Image.open(tmp_path / lines()[0]["path"]) as picture:
        ninth = to_network(np.asarray(picture), None, height=64, width=64)
    assert lines()[0]["path"].endswith("frame9.png")
    assert np.array_equal(known.frames[0], ninth)


def test_frames_of_a_clip_that_differ_in_size_are_brought_to_one_size_each(tmp_path: Path) -> None:
    index = written(tmp_path, lines())
    known = read(index).pack
    other = tmp_path / lines()[1]["path"]
    pixels = np.full((33, 47), 90, np.uint8)
    Image.fromarray(pixels).save(other)
    found = read(index).pack
    assert found.frames.shape == known.frames.shape
    assert np.array_equal(found.frames[1], to_network(pixels, None, height=64, width=64))
    assert np.array_equal(found.frames[[0, 2]], known.frames[[0, 2]])


def test_other_data_sets_of_an_index_are_left_out(tmp_path: Path) -> None:
    rows = lines()
    other = rows[0] | {"dataset": "other", "label": "benign", "path": "other.png"}
    index = written(tmp_path, [*rows, other])
    assert len(read(index, dataset="test").pack) == 54
    with pytest.raises(StoreError, match=r"index.csv:56: label 'benign'; write CLASS;fold=N"):
        read(index)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "cold;fold=0"}, "class 'cold'; known are covid, pneumonia, regular"),
        ({"label": "covid;fold=2"}, "two classes or lies in two folds"),
        ({"label": "regular;fold=0"}, "two classes or lies in two folds"),
    ],
)
def test_a_line_that_will_not_do_is_named(
    tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    rows = lines()
    with pytest.raises(StoreError, match=says):
        read(written(tmp_path, [rows[0] | changes, *rows[1:]]))


def test_what_is_no_index_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path / "nothing.csv")
    (tmp_path / "other.csv").write_text("path,fold\n")
    with pytest.raises(StoreError, match="has no column patient, label; add it"):
        read(tmp_path / "other.csv")
    with pytest.raises(ConfigError, match="labels: 'lungs': take one of"):
        read(tmp_path / "other.csv", labels="lungs")
    with pytest.raises(StoreError, match=r"in 2 fold\(s\); it takes 3 or more"):
        read(written(tmp_path / "two", lines(folds=2)))


def test_an_index_that_excel_wrote_is_read(tmp_path: Path) -> None:
    index = written(tmp_path, lines())
    known = read(index).pack
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert read(index).pack.store_version == known.store_version


def test_a_line_with_too_few_values_is_named(tmp_path: Path) -> None:
    index = written(tmp_path, lines())
    index.write_text(f"label,patient,path\n{lines()[0]['label']},clip\n")
    with pytest.raises(StoreError, match=r"index.csv:2: path is missing; write a value"):
        read(index)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_picture_of_more_than_eight_bits_is_named(tmp_path: Path, kind: type) -> None:
    index = written(tmp_path, lines())
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.linspace(256, 4000, 600).reshape(20, 30).astype(kind)).save(deep)
    deep.rename(tmp_path / lines()[4]["path"])
    with pytest.raises(StoreError, match=r"frame\d+.png: more than 8 bits a pixel .*; save it"):
        read(index)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    index = written(tmp_path, lines())
    picture = tmp_path / lines()[4]["path"]
    picture.write_bytes(b"no picture")
    with pytest.raises(StoreError, match=f"{picture.name}: cannot be read"):
        read(index)
    picture.unlink()
    with pytest.raises(StoreError, match=f"{picture.name}: cannot be read"):
        read(index)
