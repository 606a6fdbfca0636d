import itertools
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Geometry, Task
from dicom_node.store import SPLITS, WeakLabelStore
from tests.support.packs import Still, filled, mask, patients
from training import pack
from training.config import Size
from training.pack import Pack, rows

SIZE = Size(height=64, width=96)
TRAIN, VALIDATION, TEST = (patients(split, 12) for split in rows.SPLITS)


def packed(folder: Path, stills: list[Still]) -> Pack:
    return pack.build(filled(folder / "store", stills), folder / "pack", SIZE)


def classified(of: list[str], names: list[str]) -> list[Still]:
    return [
        Still(patient=one, label={"class_name": f"breast/{name}"})
        for one, name in zip(of, names, strict=True)
    ]


def test_the_splits_are_those_of_the_store() -> None:
    assert tuple(SPLITS) == rows.SPLITS


def test_tags_are_two_geometries_and_eight_groups_and_a_missing_one_is_0(tmp_path: Path) -> None:
    known = [
        (Geometry.LINEAR, {"thyroid"}),
        (Geometry.CURVILINEAR, {"liver", "abdomen"}),
        (Geometry.CURVILINEAR, set()),
        (Geometry.PHASED, {"chest"}),
        (Geometry.UNKNOWN, set()),
        (Geometry.VOLUME, set()),
    ]
    built = packed(
        tmp_path,
        [
            Still(patient=one, fields={"geometry": geometry, "groups": frozenset(groups)})
            for one, (geometry, groups) in zip(sorted(TRAIN[:6]), known, strict=True)
        ],
    )
    assert ("linear", "curvilinear", *GROUPS) == rows.TAGS
    expected = [
        [geometry is Geometry.LINEAR, geometry is Geometry.CURVILINEAR, *(g in s for g in GROUPS)]
        for geometry, s in known
    ]
    assert built.tags().dtype == np.float32
    assert np.array_equal(built.tags(), np.array(expected, np.float32))
    assert built.tagged() == 4
    assert built.tagged(np.array([0, 4])) == 1


def test_columns_say_what_the_store_knows(tmp_path: Path) -> None:
    stills = [
        Still(patient=TRAIN[0], label={"quality": 3}),
        Still(patient=TRAIN[0], fields={"frame_number": 1}),
        Still(patient=TEST[0], label={"class_name": "lung/regular"}),
        Still(patient=VALIDATION[0], label={"mask": mask(), "labels": "fetal-head"}),
        Still(patient=VALIDATION[1], label={"mask": mask(labels=2), "class_name": "breast/benign"}),
    ]
    built = packed(tmp_path, stills)
    with WeakLabelStore(tmp_path / "store") as store:
        frames = store.frames()
    known = built.rows
    assert known.quality.tolist() == [-1 if f.quality is None else f.quality for f in frames]
    assert [rows.SPLITS[n] for n in known.split] == [f.split for f in frames]
    assert [rows.GEOMETRIES[n] for n in known.geometry] == [f.geometry for f in frames]
    assert known.frame_number.tolist() == [f.frame_number for f in frames]
    sets, classes = list(built.label_sets), list(built.class_sets)
    assert [None if n < 0 else sets[n] for n in known.label_set] == [f.label_set for f in frames]
    assert [None if n < 0 else classes[n] for n in known.class_set] == [f.class_set for f in frames]
    assert built.label_sets == {"liver-kidney": ("liver", "kidney"), "fetal-head": ("head",)}
    names = [
        None if n < 0 else built.class_sets[classes[s]][n]
        for s, n in zip(known.class_set, known.class_index, strict=True)
    ]
    assert names == [f.class_name for f in frames]
    for column in ("patient", "study", "instance"):
        numbers, tokens = getattr(known, column), [getattr(f, column) for f in frames]
        assert len(set(numbers.tolist())) == len(set(tokens))
        assert len(set(zip(numbers.tolist(), tokens, strict=True))) == len(set(tokens))


def test_rows_are_selected_by_split_task_and_set(tmp_path: Path) -> None:
    stills = [
        Still(patient=TRAIN[0], label={"quality": 0}),
        Still(patient=TRAIN[1], label={"mask": mask(), "labels": "thyroid-nodule"}),
        Still(patient=TRAIN[2], label={"mask": mask(), "labels": "breast-lesion"}),
        Still(patient=TEST[0], label={"mask": mask(), "labels": "breast-lesion"}),
        Still(patient=TEST[1], label={"class_name": "breast/normal"}),
        Still(patient=TEST[2]),
    ]
    built = packed(tmp_path, stills)
    with WeakLabelStore(tmp_path / "store") as store:
        frames = store.frames()

    def ids(chosen: np.ndarray) -> list[str]:
        return [frames[row].frame_id for row in chosen]

    assert built.select().tolist() == list(range(6))
    assert ids(built.select(split="test")) == [f.frame_id for f in frames if f.split == "test"]
    for task in Task:
        with WeakLabelStore(tmp_path / "store") as store:
            labelled = [f.frame_id for f in store.frames(labelled=task)]
        assert ids(built.select(labelled=task)) == labelled
    lesions = built.select(labelled=Task.SEGMENTATION, labels="breast-lesion")
    assert len(lesions) == 2
    assert len(built.select(split="test", labelled=Task.SEGMENTATION, labels="breast-lesion")) == 1
    assert len(built.select(labelled=Task.CLASSIFICATION, labels="breast")) == 1
    with pytest.raises(StoreError, match="'fetal-head'; there are labels of thyroid-nodule, br"):
        built.select(labelled=Task.SEGMENTATION, labels="fetal-head")


def test_a_set_that_nobody_labelled_asks_for_labels(tmp_path: Path) -> None:
    built = packed(tmp_path, [Still(patient=TRAIN[0])])
    with pytest.raises(StoreError, match="no frame has a class of 'breast'; import labels first"):
        built.select(labelled=Task.CLASSIFICATION, labels="breast")
    with pytest.raises(StoreError, match="holds 1 frames, none with a quality score"):
        built.splits(labelled=Task.QUALITY)


def test_one_patient_is_not_enough(tmp_path: Path) -> None:
    built = packed(tmp_path, [Still(patient=TRAIN[0], label={"quality": n}) for n in range(3)])
    with pytest.raises(
        StoreError, match=r"1 patient\(s\) have frames and none.*'validation'; harv"
    ):
        built.splits()
    with pytest.raises(StoreError, match=r"frames with a quality score and none .*; label frames"):
        built.splits(labelled=Task.QUALITY)


def test_splits_may_lack_a_test_patient(tmp_path: Path) -> None:
    built = packed(tmp_path, [Still(patient=TRAIN[0]), Still(patient=VALIDATION[0])])
    assert {split: len(found) for split, found in built.splits().items()} == {
        "train": 1,
        "validation": 1,
        "test": 0,
    }


def test_a_share_takes_whole_patients_and_smaller_ones_lie_in_larger_ones(tmp_path: Path) -> None:
    built = packed(tmp_path, [Still(patient=one) for one in TRAIN for _ in range(2)])
    every = built.select()
    for seed in range(3):
        parts = [built.share(every, share, seed) for share in (0.05, 0.25, 0.5, 1.0)]
        assert [len(part) for part in parts] == [2, 6, 12, 24]
        for smaller, larger in itertools.pairwise(parts):
            assert set(smaller) < set(larger)
        for part in parts:
            assert not set(built.rows.patient[part]) & set(
                built.rows.patient[np.setdiff1d(every, part)]
            )
            assert part.tolist() == sorted(part)
    assert len({tuple(built.share(every, 0.25, seed)) for seed in range(8)}) > 1


def test_a_share_holds_a_patient_of_every_class(tmp_path: Path) -> None:
    names = ["benign"] * 10 + ["malignant", "normal"]
    built = packed(tmp_path, classified(TRAIN, names))
    every = built.select()
    for seed in range(6):
        small, half = (built.share(every, share, seed) for share in (0.05, 0.5))
        assert sorted(built.rows.class_index[small]) == [0, 1, 2]
        assert set(small) < set(half)
        assert len(half) == 6
    assert len(built.share(every, 0.05, 0, task=Task.SEGMENTATION)) == 1


def test_a_share_of_scored_views_holds_a_patient_of_every_score(tmp_path: Path) -> None:
    stills = [Still(patient=one, label={"quality": n % 5}) for n, one in enumerate(TRAIN)]
    built = packed(tmp_path, stills)
    small = built.share(built.select(), 0.05, 1, task=Task.QUALITY)
    assert sorted(built.rows.quality[small]) == [0, 1, 2, 3, 4]


def test_a_share_of_nothing_is_nothing(tmp_path: Path) -> None:
    built = packed(tmp_path, [Still(patient=TRAIN[0])])
    assert len(built.share(built.select(split="test"), 0.5, 0)) == 0
