from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightly", reason="pip install --group train")

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import GROUPS
from tests.support.clips import SIZE, clip, packed
from tests.support.finetuning import with_columns
from tests.support.frames import speckle
from tests.support.packs import Still, filled, patients
from training import clips, pack, views
from training.clips import Mixing, Pairs
from training.pack import Pack


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return packed(tmp_path_factory.mktemp("clips"))


def pairs(of: Pack, *, split: str = "train", mixing: Mixing | None = None, **how: Any) -> Pairs:
    found = clips.of_rows(of, of.select(split=split))
    usual = {
        "batch_size": 4,
        "seed": 0,
        "training": split == "train",
        "rank": 0,
        "world": 1,
        "device": torch.device("cpu"),
    }
    labels = clips.group_labels(of, found)
    return Pairs(of, found, labels, mixing or Mixing(), **(usual | how))


def made_by_hand(
    source: Pairs, order: np.ndarray, number: int, *, mixed_first: bool
) -> torch.Tensor:
    """Return the first pictures of an epoch, step by step."""
    rng = np.random.default_rng((0, number, 1))
    drawn = clips.draw([source.clips[place] for place in order], source.mixing, rng)
    if not mixed_first and not source.training:
        drawn.weights[:] = 1
    frames = torch.from_numpy(source.pack.frames[drawn.rows.T.reshape(-1)])[:, None].float()
    weights = torch.from_numpy(drawn.weights)
    seen = torch.from_numpy(views.draw((2 if mixed_first else 3) * len(order), rng))
    if mixed_first:
        return views.apply(clips.mix(frames, weights), seen)
    return clips.mix(views.apply(frames, seen), weights)


def test_a_clip_is_the_frames_of_an_instance_in_the_order_of_time(known: Pack) -> None:
    rows = known.select(split="train")
    found = clips.of_rows(known, np.random.default_rng(0).permutation(rows))
    assert len(found) == 6
    assert sorted(np.concatenate(found)) == rows.tolist()
    for each in found:
        assert len(set(known.rows.instance[each])) == 1
        assert known.rows.frame_number[each].tolist() == [1, 2, 3, 4]
    assert clips.of_rows(known, rows[:0]) == []


def test_a_pair_mixes_three_frames_in_order_by_two_weights() -> None:
    of = [np.arange(10, 17)] * 200
    drawn = clips.draw(of, Mixing(), np.random.default_rng(0))
    assert (np.diff(drawn.rows, axis=1) > 0).all()
    assert set(drawn.rows.reshape(-1)) == set(range(10, 17))
    first, second = drawn.weights.T
    assert not np.isclose(first, second).all()
    # Beta(0.5, 0.5) has mean 1/2 and variance 1/8, most of it near 0 and 1
    assert drawn.weights.mean() == pytest.approx(0.5, abs=0.05)
    assert drawn.weights.var() == pytest.approx(0.125, abs=0.02)


def test_the_published_code_draws_in_any_order_with_one_weight() -> None:
    drawn = clips.draw([np.arange(7)] * 50, Mixing(as_code=True), np.random.default_rng(0))
    assert not (np.diff(drawn.rows, axis=1) > 0).all()
    assert all(len(set(row)) == 3 for row in drawn.rows.tolist())
    assert np.array_equal(drawn.weights[:, 0], drawn.weights[:, 1])


def test_two_frames_are_the_pair_and_one_frame_is_both_without_mixing() -> None:
    drawn = clips.draw([np.array([3, 8]), np.array([5])], Mixing(), np.random.default_rng(0))
    assert drawn.rows[:, [0, 2]].tolist() == [[3, 8], [5, 5]]
    assert (drawn.weights == 1).all()


@pytest.mark.parametrize("as_code", [False, True])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_short_clip_gives_two_views_of_its_frames_unmixed(
    tmp_path: Path, frames: int, as_code: bool
) -> None:
    short = packed(tmp_path, frames=frames)
    source = pairs(short, mixing=Mixing(as_code=as_code), batch_size=6)
    [batch] = source.epoch(0)
    order = np.random.default_rng((0, 0, 0)).permutation(6)
    rng = np.random.default_rng((0, 0, 1))
    clips.draw([source.clips[place] for place in order], source.mixing, rng)
    seen = torch.from_numpy(views.draw(6 * (3 if as_code else 2), rng))
    ends = np.concatenate([[source.clips[place][end] for place in order] for end in (0, -1)])
    pictures = torch.from_numpy(short.frames[ends])[:, None].float()
    # the published code takes a view of the anchor as well, which has no part in the pair
    taken = torch.cat((seen[:6], seen[-6:]))
    assert torch.allclose(batch["frames"], views.apply(pictures, taken))
    assert not torch.equal(batch["frames"][:6], batch["frames"][6:])


def test_mixtures_are_weighted_sums_with_the_anchor() -> None:
    grey = torch.tensor([10.0, 20, 100, 200, 50, 60]).reshape(6, 1, 1, 1)
    weights = torch.tensor([[1, 0.5], [0.25, 0]])
    found = clips.mix(grey, weights).reshape(-1).tolist()
    assert found == [10, 0.25 * 20 + 0.75 * 200, 0.5 * 50 + 0.5 * 100, 200]


@pytest.mark.parametrize("as_code", [False, True])
def test_views_are_taken_of_mixtures_or_of_frames_before_mixing(
    known: Pack, *, as_code: bool
) -> None:
    source = pairs(known, mixing=Mixing(as_code=as_code))
    [batch] = source.epoch(3)
    order = np.random.default_rng((0, 3, 0)).permutation(6)[:4]
    one, other = (made_by_hand(source, order, 3, mixed_first=first) for first in (False, True))
    assert torch.equal(batch["frames"], one if as_code else other)
    assert not torch.allclose(one, other, atol=1)
    assert torch.equal(batch["labels"], torch.from_numpy(source.labels[order]))


def test_the_published_code_validates_without_mixing(known: Pack) -> None:
    for as_code in (False, True):
        source = pairs(known, split="validation", mixing=Mixing(as_code=as_code))
        [batch] = source.epoch(0)
        expected = made_by_hand(source, np.arange(4), 0, mixed_first=not as_code)
        assert torch.equal(batch["frames"], expected)


def test_processes_together_get_the_batch_of_one(known: Pack) -> None:
    alone = list(pairs(known).epoch(2))
    parts = [list(pairs(known, rank=rank, world=2).epoch(2)) for rank in range(2)]
    for step, whole in enumerate(alone):
        views_of = [part[step]["frames"].tensor_split(2) for part in parts]
        together = torch.cat([half for side in range(2) for half in (v[side] for v in views_of)])
        assert torch.equal(together, whole["frames"])
        assert torch.equal(torch.cat([part[step]["labels"] for part in parts]), whole["labels"])


def test_a_validation_batch_goes_to_one_process_as_a_whole(known: Pack) -> None:
    alone = list(pairs(known, split="validation", batch_size=2).epoch(0))
    parts = [
        list(pairs(known, split="validation", batch_size=2, rank=r, world=3).epoch(0))
        for r in range(3)
    ]
    assert len(alone) == 2
    assert [len(part) for part in parts] == [1, 1, 1]
    assert torch.equal(parts[0][0]["frames"], alone[0]["frames"])
    assert torch.equal(parts[1][0]["frames"], alone[1]["frames"])
    assert parts[2][0]["frames"].shape == (0, 1, 64, 64)


def test_validation_draws_alike_in_every_epoch_and_training_does_not(known: Pack) -> None:
    one, two = (next(iter(pairs(known).epoch(n)))["frames"] for n in (1, 2))
    assert not torch.equal(one, two)
    again = next(iter(pairs(known).epoch(1)))["frames"]
    assert torch.equal(one, again)


def test_no_validation_batch_is_a_clip_alone(known: Pack) -> None:
    source = pairs(known, split="validation", batch_size=3)
    assert [len(batch["labels"]) for batch in source.epoch(0)] == [4]


def test_clips_of_other_sizes_are_brought_to_that_of_the_pack(tmp_path: Path) -> None:
    sizes = [(40, 60), (80, 60), (33, 47)]
    stills = [
        replace(still, fields=still.fields | {"pixels": speckle(*size, seed=number)})
        for patient, size in zip(patients("train", 3), sizes, strict=True)
        for number, still in enumerate(clip(patient, 3))
    ]
    mixed = pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE)
    [batch] = pairs(mixed).epoch(1)
    assert batch["frames"].shape == (6, 1, 64, 64)


def test_too_few_clips_are_counted_with_the_cure(known: Pack) -> None:
    with pytest.raises(StoreError, match=r"1 validation clip\(s\), contrast needs 2 "):
        one = pairs(known, split="validation")
        replace(one, clips=one.clips[:1])
    with pytest.raises(StoreError, match=r"6 training clip\(s\), contrast needs 8 .* harvest"):
        pairs(known, world=4)
    with pytest.raises(ConfigError, match="batch size 3 is no multiple of 2 processes"):
        pairs(known, world=2, batch_size=3)


def test_groups_of_a_clip_are_its_label_and_share_it(tmp_path: Path) -> None:
    one, two, three = patients("train", 3)
    stills = [*clip(one, 2), *clip(two, 1, group=None)]
    both = frozenset(GROUPS[1:3])
    stills += [Still(patient=three, fields={"groups": both})]
    mixed = pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE)
    labels = clips.group_labels(mixed, clips.of_rows(mixed, mixed.select()))
    rows = sorted(map(tuple, labels.tolist()), reverse=True)
    assert rows == [(1, *[0] * 7), (0, 0.5, 0.5, *[0] * 5), (0,) * 8]


def test_the_class_of_a_clip_is_that_of_its_frames_where_they_agree(known: Pack) -> None:
    found = clips.of_rows(known, known.select(split="train"))
    index = np.full(len(known), -1, np.int16)
    index[found[0][1]] = 2  # one frame speaks for the clip
    index[found[1][:2]] = 0, 1  # two frames do not agree
    sets = np.where(index < 0, -1, 0).astype(np.int16)
    index[found[2]], sets[found[2]] = 1, 1  # of another set
    labelled = replace(
        with_columns(known, class_index=index, class_set=sets),
        class_sets={"lung": ("covid", "pneumonia", "regular"), "breast": ("benign", "malignant")},
    )
    labels = clips.class_labels(labelled, found, "lung", 3)
    assert labels[0].tolist() == [0, 0, 1]
    assert not labels[1:].any()
    assert not clips.class_labels(known, found, "lung", 3).any()


def test_a_smaller_share_of_labels_lies_in_a_larger_and_is_no_less_than_one() -> None:
    labels = np.eye(3, dtype=np.float32)[np.arange(100) % 3]
    labels[:20] = 0
    kept = {
        share: set(np.flatnonzero(clips.keep_share(labels, share, seed=1).any(axis=1)))
        for share in (0, 0.001, 0.1, 0.5, 1)
    }
    assert [len(found) for found in kept.values()] == [0, 1, 8, 40, 80]
    assert kept[0.001] < kept[0.1] < kept[0.5] < kept[1]
    again = clips.keep_share(labels, 0.1, seed=2)
    assert set(np.flatnonzero(again.any(axis=1))) != kept[0.1]
    assert not clips.keep_share(labels[:20], 1.0, seed=1).any()
