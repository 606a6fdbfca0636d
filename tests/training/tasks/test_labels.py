from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.phantom.study import StudySpec, ViewSpec, cohort
from dicom_node.records import Task
from tests.support.finetuning import SIZE, settings, with_classes, with_columns
from tests.support.phantoms import fill_store
from training import pack
from training.pack import Pack
from training.tasks import labels


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack.build(phantom_store, tmp_path_factory.mktemp("packs") / "pack", SIZE)


def one_view_each(folder: Path, quality: int, patients: int = 12) -> Pack:
    views = (ViewSpec(quality=quality),)
    fill_store(
        folder / "store", [StudySpec(seed=0, patient=n, views=views) for n in range(patients)]
    )
    return pack.build(folder / "store", folder / "pack", SIZE)


def test_the_names_of_a_set_are_in_the_order_of_their_values(phantoms: Pack) -> None:
    assert labels.names(phantoms, settings(Task.SEGMENTATION)) == ("liver", "kidney")
    assert labels.names(phantoms, settings(Task.QUALITY)) == ()


def test_a_set_that_nobody_used_is_answered_with_those_that_there_are(phantoms: Pack) -> None:
    wanted = settings(Task.SEGMENTATION, labels="fetal-head")
    count = len(phantoms.select(labelled=Task.SEGMENTATION))
    with pytest.raises(
        StoreError, match=rf"'fetal-head'; there are liver-kidney \({count} frames\)"
    ):
        labels.names(phantoms, wanted)
    with pytest.raises(StoreError, match="none with a class; import labels first"):
        labels.names(phantoms, settings(Task.CLASSIFICATION))


def test_the_only_set_need_not_be_named_and_one_of_several_must(phantoms: Pack) -> None:
    assert labels.only_set(phantoms, Task.SEGMENTATION) == "liver-kidney"
    assert labels.only_set(phantoms, Task.QUALITY) is None
    several = replace(phantoms, label_sets={"liver-kidney": ("liver", "kidney"), "head": ("head",)})
    with pytest.raises(
        StoreError, match=r"liver-kidney \(\d+ frames\), head \(0 frames\): name one"
    ):
        labels.only_set(several, Task.SEGMENTATION)


def test_a_share_is_taken_of_the_training_patients_alone(phantoms: Pack) -> None:
    whole, part = (labels.splits(phantoms, settings(share=share)) for share in (1.0, 0.3))
    assert set(part["train"]) < set(whole["train"])
    for split in ("validation", "test"):
        assert np.array_equal(part[split], whole[split])


def test_one_training_frame_is_not_enough(phantoms: Pack) -> None:
    first, *others = phantoms.select(split="train", labelled=Task.SEGMENTATION)
    has_mask = phantoms.rows.has_mask.copy()
    has_mask[others] = False
    assert has_mask[first]
    lone = with_columns(phantoms, has_mask=has_mask)
    with pytest.raises(StoreError, match="leaves one training frame"):
        labels.splits(lone, settings(Task.SEGMENTATION))


def test_a_store_without_labels_asks_for_labels(tmp_path: Path) -> None:
    fill_store(tmp_path / "store", cohort(seed=0, patients=2, stills=1), labelled=False)
    empty = pack.build(tmp_path / "store", tmp_path / "pack", SIZE)
    with pytest.raises(StoreError, match="holds 2 frames, none with a mask; import labels first"):
        labels.names(empty, settings(Task.SEGMENTATION))
    with pytest.raises(StoreError, match="holds 2 frames, none with a quality score; import"):
        labels.splits(empty, settings(Task.QUALITY))


def test_one_patient_is_not_enough(tmp_path: Path) -> None:
    fill_store(tmp_path / "store", cohort(seed=0, patients=1))
    lone = pack.build(tmp_path / "store", tmp_path / "pack", SIZE)
    with pytest.raises(StoreError, match=r"1 patient\(s\) have frames with a quality score"):
        labels.splits(lone, settings(Task.QUALITY))


def test_one_score_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="have the quality score 2; label frames of other scores"):
        labels.splits(one_view_each(tmp_path, 2), settings(Task.QUALITY))


def test_masks_without_a_label_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"shows liver \(1\) and kidney \(2\)"):
        labels.splits(one_view_each(tmp_path, 0), settings(Task.SEGMENTATION))


def test_one_class_teaches_nothing(phantoms: Pack) -> None:
    classed = with_classes(phantoms)
    assert labels.splits(classed, settings(Task.CLASSIFICATION))["train"].size
    index = np.where(classed.rows.class_index >= 0, 1, -1).astype(np.int16)
    with pytest.raises(
        StoreError, match="of the class 'malignant'; label frames of benign or norm"
    ):
        labels.splits(with_columns(classed, class_index=index), settings(Task.CLASSIFICATION))
