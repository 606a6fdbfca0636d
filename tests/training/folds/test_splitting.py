import numpy as np
import pytest

from dicom_node.errors import StoreError
from training.folds.frames import FoldedFrames
from training.folds.splitting import split
from training.pack import Pack


def clips(pack: Pack, name: str) -> set[int]:
    return set(pack.rows.instance[pack.select(split=name)].tolist())


def test_one_fold_is_tested_whole_and_clips_are_on_one_side(folded: FoldedFrames) -> None:
    for fold in folded.names:
        pack = split(folded, fold, validation=0.25, seed=0, most_frames=2)
        sides = [clips(pack, name) for name in ("train", "validation", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 18
        tested = pack.select(split="test")
        assert np.array_equal(tested, np.flatnonzero(folded.folds == fold))
        # of each class one of four clips validates
        assert len(sides[1]) == 3
        validating = pack.select(split="validation")
        assert set(pack.rows.class_index[validating].tolist()) == {0, 1, 2}


def test_frames_of_a_clip_that_are_too_many_belong_to_no_split(folded: FoldedFrames) -> None:
    pack = split(folded, 0, validation=0.25, seed=0, most_frames=2)
    rows = pack.select(split="train")
    clip = np.flatnonzero(pack.rows.instance == pack.rows.instance[rows[0]])
    kept = np.intersect1d(rows, clip)
    assert kept.tolist() == [clip[0], clip[2]]  # the first and the last of three


def test_seed_and_fold_draw_the_validation_clips(folded: FoldedFrames) -> None:
    def drawn(seed: int) -> set[int]:
        return clips(split(folded, 1, validation=0.25, seed=seed, most_frames=None), "validation")

    assert drawn(0) == drawn(0)
    assert len({frozenset(drawn(seed)) for seed in range(5)}) > 1


def test_packs_of_other_folds_are_of_other_versions(folded: FoldedFrames) -> None:
    packs = [split(folded, f, validation=0.25, seed=0, most_frames=None) for f in folded.names]
    assert len({pack.store_version for pack in packs}) == 3


def test_a_class_of_one_clip_cannot_be_on_both_sides(folded: FoldedFrames) -> None:
    rows = folded.pack.rows
    lonely = FoldedFrames(
        pack=folded.pack, folds=np.where((rows.class_index == 0) & (rows.instance > 0), 0, 1)
    )
    with pytest.raises(StoreError, match=r"1 clip\(s\) of the class 'covid' outside fold 0"):
        split(lonely, 0, validation=0.25, seed=0, most_frames=None)
