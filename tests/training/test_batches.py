import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import GROUPS, Geometry
from tests.support.packs import Still, filled, mask, patients
from training import pack
from training.augment import apply, draw
from training.batches import READ_AHEAD, Batches, fitting, held_bytes
from training.config import Size
from training.pack import Pack

SIZE = Size(height=64, width=96)
CPU = torch.device("cpu")
EVERY = ("tags", "mask", "quality", "class")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack of 22 frames that have every target."""
    folder = tmp_path_factory.mktemp("batches")
    stills = [
        Still(
            patient=patient,
            fields={"geometry": Geometry.LINEAR, "groups": frozenset({GROUPS[n % 8]})},
            label={
                "mask": mask(n, 2),
                "quality": n % 5,
                "class_name": f"breast/{('benign', 'malignant', 'normal')[n % 3]}",
            },
        )
        for n, patient in enumerate(patients("train", 22))
    ]
    return pack.build(filled(folder / "store", stills), folder / "pack", SIZE)


def batches(packed: Pack, **fields: Any) -> Batches:
    known = {"batch_size": 8, "training": True, "device": CPU, "seed": 5}
    return Batches(packed, packed.select(), **(known | fields))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_an_evaluation_sees_every_frame_in_order_and_as_it_is(packed: Pack) -> None:
    found = list(batches(packed, training=False, targets=EVERY).epoch(1))
    assert [len(batch["frames"]) for batch in found] == [8, 8, 6]
    whole = {name: torch.cat([batch[name] for batch in found]) for name in found[0]}
    assert np.array_equal(whole["frames"][:, 0].numpy(), packed.frames)
    assert np.array_equal(whole["mask"].numpy(), packed.masks)
    assert np.array_equal(whole["tags"].numpy(), packed.tags())
    assert np.array_equal(whole["quality"].numpy(), packed.rows.quality)
    assert np.array_equal(whole["class"].numpy(), packed.rows.class_index)


def test_shapes_and_types_are_those_of_the_contract(packed: Pack) -> None:
    batch = next(batches(packed, targets=EVERY).epoch(1))
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "frames": ((8, 1, 64, 96), torch.uint8),
        "mask": ((8, 64, 96), torch.int64),
        "tags": ((8, 10), torch.float32),
        "quality": ((8,), torch.int64),
        "class": ((8,), torch.int64),
    }


def test_training_batches_are_what_a_slow_loop_over_the_rows_gives(packed: Pack) -> None:
    found = list(batches(packed, targets=EVERY).epoch(3))
    order = np.random.default_rng((5, 3, 0)).permutation(22)
    for step, batch in enumerate(found):
        changes = draw(8, (64, 96), np.random.default_rng((5, 3, 1 + step)))
        for place in range(8):
            row, change = order[8 * step + place], torch.from_numpy(changes[place])[None]
            frame = torch.from_numpy(np.array(packed.frames[row]))[None, None]
            assert packed.masks is not None
            label = torch.from_numpy(np.array(packed.masks[row]))[None, None]
            assert torch.equal(batch["frames"][place], apply(frame, change)[0])
            assert torch.equal(batch["mask"][place], apply(label, change)[0, 0].long())
            assert int(batch["quality"][place]) == packed.rows.quality[row]


def test_training_drops_a_short_last_batch_unless_it_is_the_only_one(packed: Pack) -> None:
    for size, steps in ((8, 2), (11, 2), (22, 1), (30, 1)):
        of_size = batches(packed, batch_size=size)
        assert len(of_size) == len(list(of_size.epoch(1))) == steps
    assert len(next(batches(packed, batch_size=30).epoch(1))["frames"]) == 22
    assert len(batches(packed, batch_size=8, training=False)) == 3


def test_seed_and_epoch_decide_everything(packed: Pack) -> None:
    def first(seed: int, epoch: int) -> dict[str, Tensor]:
        return next(batches(packed, targets=EVERY, seed=seed).epoch(epoch))

    assert same(first(1, 1), first(1, 1))
    assert not same(first(1, 1), first(1, 2))
    assert not same(first(1, 1), first(2, 1))


def test_an_epoch_shows_every_frame_once(packed: Pack) -> None:
    found = list(batches(packed, batch_size=11, targets=("tags", "quality", "class")).epoch(9))
    seen = [
        (int(tags.argwhere()[-1]), int(quality), int(name))
        for batch in found
        for tags, quality, name in zip(batch["tags"], batch["quality"], batch["class"], strict=True)
    ]
    known = [
        (int(tags.nonzero()[0][-1]), int(quality), int(name))
        for tags, quality, name in zip(
            packed.tags(), packed.rows.quality, packed.rows.class_index, strict=True
        )
    ]
    assert sorted(seen) == sorted(known)


@pytest.mark.parametrize("training", [True, False])
def test_two_processes_together_get_the_batch_of_one(packed: Pack, training: bool) -> None:
    alone = list(batches(packed, targets=EVERY, training=training).epoch(4))
    parts = [
        list(batches(packed, targets=EVERY, training=training, rank=rank, world=2).epoch(4))
        for rank in range(2)
    ]
    assert len(alone) == len(parts[0]) == len(parts[1])
    for whole, first, second in zip(alone, *parts, strict=True):
        assert same(whole, {name: torch.cat((first[name], second[name])) for name in whole})


def test_more_processes_than_frames_in_the_last_batch_get_empty_parts(packed: Pack) -> None:
    parts = [
        list(batches(packed, training=False, batch_size=21, rank=rank, world=3).epoch(0))
        for rank in range(3)
    ]
    assert [[len(batch["frames"]) for batch in part] for part in parts] == [[7, 1], [7, 0], [7, 0]]


def test_an_epoch_that_is_left_early_leaves_no_thread(packed: Pack) -> None:
    before = threading.active_count()
    epoch = batches(packed, batch_size=2).epoch(1)
    next(epoch)
    assert threading.active_count() == before + 1
    epoch.close()
    assert threading.active_count() == before


def test_batches_are_read_before_they_are_asked_for(packed: Pack) -> None:
    read = threading.Semaphore(0)

    class Watched(Batches):
        def _load(self, *args: Any) -> Any:
            read.release()
            return super()._load(*args)

    epoch = Watched(packed, packed.select(), batch_size=2, training=True, device=CPU, seed=0).epoch(
        1
    )
    next(epoch)
    assert all(read.acquire(timeout=10) for _ in range(1 + READ_AHEAD))
    epoch.close()


def test_a_fault_while_reading_reaches_the_reader(packed: Pack) -> None:
    broken = batches(packed, targets=("mask",))
    broken.__dict__["_pictures"] = {"frames": packed.frames[:3]}
    with pytest.raises(IndexError):
        list(broken.epoch(1))


def test_rows_without_their_target_are_refused(tmp_path: Path) -> None:
    of = patients("train", 3)
    stills = [
        Still(patient=of[0], label={"quality": 1}),
        Still(patient=of[1]),
        Still(patient=of[2]),
    ]
    lone = pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE)
    with pytest.raises(ValueError, match="'quality'"):
        batches(lone, targets=("quality",))
    with pytest.raises(ValueError, match="no target 'masks'; there are tags, mask"):
        batches(lone, targets=("masks",))


def test_rows_of_another_set_are_refused(tmp_path: Path) -> None:
    sets = ("thyroid-nodule", "breast-lesion", "breast-lesion")
    stills = [
        Still(patient=one, label={"mask": mask(), "labels": name})
        for one, name in zip(patients("train", 3), sets, strict=True)
    ]
    mixed = pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE)
    with pytest.raises(ValueError, match="another set"):
        batches(mixed, targets=("mask",), labels="breast-lesion")


def test_a_batch_that_cannot_be_shared_out_is_refused(packed: Pack) -> None:
    with pytest.raises(ConfigError, match="batch size 8 is no multiple of 3 processes"):
        batches(packed, world=3)


@pytest.mark.parametrize(
    ("wanted", "rows", "world", "found"),
    [(8, 7, 2, 6), (8, 7, 1, 7), (8, 8, 2, 8), (8, 100, 2, 8), (30, 22, 4, 20), (9, 100, 2, 9)],
)
def test_a_batch_that_few_frames_fill_is_shared_evenly(
    packed: Pack, wanted: int, rows: int, world: int, found: int
) -> None:
    assert fitting(wanted, rows, world) == found
    if rows <= len(packed) and not found % world:
        few = Batches(
            packed, np.arange(rows), batch_size=found, world=world, training=True, device=CPU
        )
        assert len(next(few.epoch(1))["frames"]) == found / world


def test_too_few_frames_to_train_on_are_refused(packed: Pack) -> None:
    for rows, world in ((0, 1), (1, 1), (3, 2)):
        with pytest.raises(StoreError, match=rf"{rows} training frame\(s\) for {world} process"):
            Batches(packed, np.arange(rows), batch_size=8, world=world, training=True, device=CPU)


def test_an_evaluation_of_nothing_has_no_batches(packed: Pack) -> None:
    nothing = Batches(packed, np.arange(0), batch_size=8, training=False, device=CPU)
    assert len(nothing) == 0
    assert list(nothing.epoch(0)) == []


@pytest.mark.parametrize("training", [True, False])
def test_frames_that_are_held_on_the_device_make_the_same_batches(
    packed: Pack, training: bool
) -> None:
    one, other = (
        batches(packed, targets=EVERY, training=training, held_bytes=held) for held in (0, 2**30)
    )
    assert "frames" in (other._held or {})
    assert one._held is None
    for read, held in zip(one.epoch(2), other.epoch(2), strict=True):
        assert same(read, held)


def test_what_is_held_takes_what_is_said_before(packed: Pack) -> None:
    for targets in ((), ("tags",), EVERY):
        of_targets = batches(packed, targets=targets, held_bytes=2**30)
        held = of_targets._held or {}
        taken = sum(held[name].nbytes for name in ("frames", "mask") if name in held)
        assert held_bytes(packed, of_targets.rows, targets) == taken > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: run where there is one")
@pytest.mark.parametrize("held_bytes", [0, 2**30])
def test_a_gpu_gets_the_batches_of_the_cpu(packed: Pack, held_bytes: int) -> None:
    device = torch.device("cuda", 0)
    there = batches(packed, targets=EVERY, device=device, held_bytes=held_bytes)
    for one, other in zip(batches(packed, targets=EVERY).epoch(2), there.epoch(2), strict=True):
        assert all(tensor.device == device for tensor in other.values())
        assert same(one, {name: tensor.cpu() for name, tensor in other.items()})
