from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import StoreError
from dicom_node.harvest import PseudonymKey, attach_labels, import_labels, open_key
from dicom_node.records import Box, Task
from dicom_node.store import WeakLabelStore
from tests.support.frames import new_frame, speckle

KEY = PseudonymKey(b"k" * 32)
UID = "1.2.3.4"
CROP = Box(left=10, top=5, right=70, bottom=45)
HEADER = "sop_instance_uid,frame,quality,mask\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WeakLabelStore]:
    with WeakLabelStore(tmp_path / "store") as store:
        for number in (1, 2, 3):
            store.add_frame(
                new_frame(
                    instance=KEY.token("instance", UID), frame_number=number, seed=number, crop=CROP
                )
            )
        yield store


def _mask(path: Path, mode: str = "L", rows: int = 60, columns: int = 90) -> np.ndarray:
    labels = (speckle(rows, columns, seed=3) % 3).astype(np.uint8)
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    elif mode != "L":
        image = image.convert(mode)
    image.save(path)
    return labels


def _csv(folder: Path, *rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_in_source_geometry_is_cropped_as_the_frame_was(
    store: WeakLabelStore, tmp_path: Path, mode: str
) -> None:
    labels = _mask(tmp_path / "mask.png", mode)
    count = attach_labels(_csv(tmp_path, f"{UID},2,4,mask.png"), store=store, key=KEY)
    assert (count.imported, count.faults) == (1, ())
    (frame,) = store.frames(labelled=Task.SEGMENTATION)
    assert (frame.frame_number, frame.quality) == (2, 4)
    assert np.array_equal(store.mask(frame.frame_id), labels[CROP.slices])


def test_quality_alone_is_enough(store: WeakLabelStore, tmp_path: Path) -> None:
    count = attach_labels(_csv(tmp_path, f"{UID},1,0,", f"{UID},3,2,"), store=store, key=KEY)
    assert count.imported == 2
    assert [frame.quality for frame in store.frames(labelled=Task.QUALITY)] == [0, 2]


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (f"sop_instance_uid,frame,quality\n{UID},1,3\n", (3, None)),
        (f"sop_instance_uid, frame, quality\n{UID}, 1, 3\n", (3, None)),
        (f"sop_instance_uid,frame,class\n{UID},1,breast/normal\n", (None, "normal")),
        (f"sop_instance_uid,frame,class,why\n{UID},1,breast/normal,sure\n", (None, "normal")),
    ],
)
def test_a_csv_has_the_columns_of_what_it_labels_alone(
    store: WeakLabelStore, tmp_path: Path, content: str, labels: tuple[int | None, str | None]
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    assert attach_labels(path, store=store, key=KEY).faults == ()
    assert [(f.quality, f.class_name) for f in store.frames() if f.frame_number == 1] == [labels]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("9.9.9,1,3,", "harvest it first"),
        (f"{UID},7,3,", "harvest it first"),
        (f"{UID},1,5,", "quality 5"),
        (f"{UID},one,3,", "frame is not a whole number"),
        (f"{UID},-1,3,", "frame is not a whole number"),
        (f"{UID},1,,", "no quality, no mask and no class"),
        (f"{UID},1,,small.png", "the mask is L, 40 x 60; expected grey or indexed, 60 x 90"),
        (f"{UID},1,,colour.png", "the mask is RGB"),
        (f"{UID},1,,none.png", "cannot be read"),
        (f"{UID},1,,labels.csv", "cannot be read"),
        (f"{UID},1,,../mask.png", "outside the CSV's folder"),
        ("", "no quality, no mask and no class"),
        (f"{UID},1,3,,2", "5 cells, and the header has 4; put a cell that holds a comma into"),
        (f"{UID},1,3", "3 cells, and the header has 4"),
        (f"{UID},{'9' * 5000},3,", "frame has 5000 digits; write at most 12"),
        (f"{UID},1,{'9' * 5000},", "quality has 5000 digits"),
        (f"{UID},1,,mask\0.png", "the mask cannot be read (ValueError)"),
        (f"{UID},1,,{'m' * 5000}.png", "the mask cannot be read (OSError)"),
        (f"{UID},1,,loop.png", "the mask cannot be read ("),
        ("Doe^Jane,1,3,", "harvest it first"),
    ],
)
def test_a_bad_row_is_named_and_costs_itself_only(
    store: WeakLabelStore, tmp_path: Path, row: str, fault: str
) -> None:
    _mask(tmp_path / "small.png", rows=40, columns=60)
    _mask(tmp_path / "colour.png", "RGB")
    (tmp_path / "loop.png").symlink_to("loop.png")
    path = _csv(tmp_path, f"{UID},1,1,", row or ",,,", f"{UID},2,2,")
    count = attach_labels(path, store=store, key=KEY)
    assert count.imported == 2
    (found,) = count.faults
    assert found.row == 3
    assert fault in found.reason
    assert "Doe" not in found.reason


def test_a_label_set_and_a_class_may_be_named(store: WeakLabelStore, tmp_path: Path) -> None:
    Image.fromarray((speckle(60, 90) > 99).astype(np.uint8)).save(tmp_path / "mask.png")
    path = tmp_path / "labels.csv"
    path.write_text(
        "class,labels,sop_instance_uid,frame,quality,mask\n"
        f"breast/benign,breast-lesion,{UID},1,,mask.png\n"
        f",,{UID},2,,mask.png\n"
        f"breast/normal,,{UID},3,,\n"
    )
    assert attach_labels(path, store=store, key=KEY).faults == ()
    assert [(f.label_set, f.class_set, f.class_name) for f in store.frames()] == [
        ("breast-lesion", "breast", "benign"),
        ("liver-kidney", None, None),
        (None, "breast", "normal"),
    ]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (f"{UID},1,,mask.png,lesions,", "no label set of this name; there are liver-kidney, thyr"),
        (f"{UID},1,,mask.png,fetal-head,", "holds the value 2; the label set fetal-head has 0 bac"),
        (f"{UID},1,3,,fetal-head,", "name the mask too"),
        (f"{UID},1,,,,breast/doubtful", "no class of this name in breast; it has benign, malig"),
        (f"{UID},1,,,,benign", "no class set of this name; there are breast, lung"),
        (f"{UID},1,,,,breast", "no class of this name"),
    ],
)
def test_a_set_or_class_that_is_not_known_costs_its_row(
    store: WeakLabelStore, tmp_path: Path, row: str, fault: str
) -> None:
    _mask(tmp_path / "mask.png")
    path = tmp_path / "labels.csv"
    path.write_text(f"sop_instance_uid,frame,quality,mask,labels,class\n{row}\n{UID},2,2,,,\n")
    count = attach_labels(path, store=store, key=KEY)
    assert count.imported == 1
    (found,) = count.faults
    assert fault in found.reason
    assert [frame.quality for frame in store.frames()] == [None, 2, None]


def test_a_file_that_is_no_such_csv_is_refused(store: WeakLabelStore, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("uid,score\n1,2\n")
    with pytest.raises(StoreError, match="no column 'sop_instance_uid'"):
        attach_labels(path, store=store, key=KEY)
    path.write_text(f"sop_instance_uid,frame,reader\n{UID},1,Roe\n")
    with pytest.raises(StoreError, match="no label; add a column of quality, mask, class"):
        attach_labels(path, store=store, key=KEY)
    with pytest.raises(StoreError, match="cannot be read"):
        attach_labels(tmp_path / "none.csv", store=store, key=KEY)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("sop_instance_uid,frame,quality,label\n", ":1: unknown column 'label'; known: class, fra"),
        ("sop_instance_uid,frame,quality,Reader\n", ":1: unknown column 'Reader'"),
        ("sop_instance_uid,frame,quality,quality\n", "column 'quality' stands twice; keep one"),
        (f'sop_instance_uid,frame,quality\n{UID},1,3\n"{UID},2,3\n', ":3: no row of a CSV"),
        (
            f"sop_instance_uid,frame,mask\n{UID},1,{'m' * 131_073}\n",
            ":2: no row of a CSV (field larger than field limit (131072)); close every quote, and "
            "keep a cell short",
        ),
        ("sop_instance_uid;frame;quality\n", ":1: one cell, and no comma; put commas between"),
        ("", ":1: no column 'sop_instance_uid'; the columns are ('sop_instance_uid', 'frame')"),
    ],
)
def test_a_csv_that_would_be_read_wrongly_labels_nothing(
    store: WeakLabelStore, tmp_path: Path, content: str, fault: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(StoreError) as raised:
        attach_labels(path, store=store, key=KEY)
    assert fault in str(raised.value)
    assert store.frames(labelled=Task.QUALITY) == []


def test_the_data_folder_of_a_node_is_enough(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with WeakLabelStore(data / "store") as store:
        token = open_key(data / "pseudonym.key").token("instance", UID)
        store.add_frame(new_frame(instance=token))
    assert import_labels(_csv(tmp_path, f"{UID},1,3,"), data=data).imported == 1
    with WeakLabelStore(data / "store") as store:
        assert store.frames()[0].quality == 3
