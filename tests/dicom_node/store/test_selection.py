import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.records import Geometry, Task
from dicom_node.store import StoredFrame, WeakLabelStore, open_store
from tests.support.frames import new_frame, speckle
from tests.support.packs import Still, filled, patients, pseudonym

TRAIN, TEST = patients("train", 1)[0], patients("test", 1)[0]
LIVER, BOTH = frozenset({"liver"}), frozenset({"liver", "kidney"})


def _still(
    patient: str, geometry: Geometry, groups: frozenset[str], *, text: bool = True, **label: object
) -> Still:
    fields = {"geometry": geometry, "groups": groups, "burned_in_annotation": text}
    return Still(patient=patient, fields=fields, label=label)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stills = [
        _still(TRAIN, Geometry.CURVILINEAR, LIVER),
        _still(TRAIN, Geometry.CURVILINEAR, BOTH, text=False, quality=2),
        _still(TRAIN, Geometry.LINEAR, frozenset({"thyroid"})),
        _still(TEST, Geometry.PHASED, frozenset({"kidney"}), quality=0),
        _still(TEST, Geometry.LINEAR, frozenset()),
    ]
    return filled(tmp_path / "store", stills)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"group": "liver"}, {0, 1}),
        ({"group": ["kidney", "thyroid"]}, {1, 2, 3}),
        ({"geometry": "linear"}, {2, 4}),
        ({"geometry": [Geometry.LINEAR, Geometry.PHASED]}, {2, 3, 4}),
        ({"split": "test"}, {3, 4}),
        ({"labelled": Task.QUALITY}, {1, 3}),
        ({"group": "kidney", "split": "train", "labelled": Task.QUALITY}, {1}),
        ({"group": "chest"}, set()),
        ({"burned_in_annotation": False}, {1}),
        ({"burned_in_annotation": True, "geometry": "linear"}, {2, 4}),
    ],
)
def test_frames_are_chosen_by_their_labels(
    folder: Path, words: dict[str, object], seeds: set[int]
) -> None:
    with open_store(folder) as store:
        chosen = store.where(**words)  # type: ignore[arg-type]
        found = {frame.instance for frame in chosen.frames()}
        assert found == {pseudonym(f"instance {seed}") for seed in seeds}
        assert len(chosen) == len(seeds)
        assert chosen.frame_ids() == [frame.frame_id for frame in chosen.frames()]


def test_a_choice_can_be_narrowed(folder: Path) -> None:
    with open_store(folder) as store:
        linear = store.where(geometry="linear")
        assert (len(linear), len(linear.where(group="thyroid"))) == (2, 1)


def test_pixels_come_with_what_is_known_of_them(folder: Path) -> None:
    with open_store(folder) as store:
        seen = {frame.instance: pixels for pixels, frame in store.where(group="liver")}
    assert set(seen) == {pseudonym("instance 0"), pseudonym("instance 1")}
    for number in (0, 1):
        assert np.array_equal(seen[pseudonym(f"instance {number}")], speckle(seed=number))


def test_a_frame_says_which_rule_spoke_of_its_geometry(tmp_path: Path) -> None:
    ruled = Still(patient=TRAIN, fields={"geometry_rule": "philips curved"}, label={})
    with open_store(filled(tmp_path / "ruled", [ruled])) as store:
        assert [frame.geometry_rule for frame in store.frames()] == ["philips curved"]


#: Opens a store as an account that may not write it; imports come first, while all can be read.
_OPENED = """
import os, sys
import sqlalchemy.dialects.sqlite
from dicom_node.errors import StoreError
from dicom_node.store import open_store
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_store(sys.argv[1]).close()
except StoreError as exc:
    print(exc)
"""


def test_a_store_that_may_not_be_written_is_refused_with_the_cure(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        copy = Path(shutil.copytree(folder, Path(open_to_all) / "store"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        asked = [sys.executable, "-c", _OPENED, str(copy)]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        copy.chmod(0o755)
    assert "may not write it" in told.stdout, told.stderr
    assert "chmod -R u+w" in told.stdout


@pytest.mark.parametrize("word", ["group", "geometry", "split"])
def test_a_word_that_is_not_known_says_which_there_are(folder: Path, word: str) -> None:
    with open_store(folder) as store, pytest.raises(StoreError, match=f"no {word} 'heart'; there"):
        store.where(**{word: "heart"})  # type: ignore[arg-type]


def test_a_folder_without_a_store_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no weak-label store"):
        open_store(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def _mean(pixels: np.ndarray, frame: StoredFrame) -> tuple[float, str]:
    return float(pixels.mean()), frame.split


def test_prepared_frames_are_a_sequence_that_goes_to_another_process(folder: Path) -> None:
    with open_store(folder) as store:
        prepared = store.where(split="train").prepared(_mean)
    sent = pickle.loads(pickle.dumps(prepared))  # noqa: S301
    assert len(sent) == 3
    assert list(sent) == [prepared[0], prepared[1], prepared[2]]
    for (mean, split), frame in zip(sent, sent.frames, strict=True):
        (number,) = [n for n in range(5) if pseudonym(f"instance {n}") == frame.instance]
        assert (mean, split) == (speckle(seed=number).mean(), "train")


def test_more_frames_than_a_page_come_in_order_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.store.selection.PAGE", 3)
    with WeakLabelStore(tmp_path) as store:
        for number in range(1, 9):
            store.add_frame(new_frame(seed=number, frame_number=number))
        numbers = [frame.frame_number for _, frame in store.where()]
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_store_from_before_labels_were_indexed_gets_its_indexes(folder: Path) -> None:
    with sqlite3.connect(folder / "catalogue.db") as connection:
        indexes = {"instances_by_labels_counted", "frames_with_quality"}
        for name in indexes:
            connection.execute(f"DROP INDEX {name}")
    with open_store(folder) as store:
        assert len(store.where(labelled=Task.QUALITY)) == 2
    with sqlite3.connect(folder / "catalogue.db") as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert indexes <= found
    connection.close()


def test_frames_are_counted_by_their_labels(folder: Path) -> None:
    with open_store(folder) as store:
        counts = {(c.geometry, c.split, c.groups): c.frames for c in store.label_counts()}
    assert counts[Geometry.CURVILINEAR, "train", LIVER] == 1
    assert sum(counts.values()) == len(counts) == 5
