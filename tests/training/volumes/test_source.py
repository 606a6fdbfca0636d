from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom_node.errors import ConfigError, StoreError
from dicom_node.store import WeakLabelStore
from dicom_node.store.volumes import SHAPE
from tests.support.volumes import fill_folder, fill_store
from training.volumes.source import (
    VolumeBatches,
    VolumeSet,
    check_masks,
    from_folder,
    from_store,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> VolumeSet:
    folder = tmp_path_factory.mktemp("volumes") / "store"
    fill_store(folder, 7)
    return from_store(folder)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> VolumeSet:
    folder = tmp_path_factory.mktemp("masks") / "masks"
    fill_folder(folder, 3)
    return from_folder(folder)


def batches(volumes: VolumeSet, **how: Any) -> VolumeBatches:
    known = {"batch_size": 2, "training": True, "shrink": 4, "device": torch.device("cpu")}
    return VolumeBatches(volumes, np.arange(len(volumes.names)), **(known | how))


def test_an_epoch_follows_from_its_number_and_the_seed(stored: VolumeSet) -> None:
    one, again = ([b["frames"] for b in batches(stored).epoch(3)] for _ in range(2))
    assert len(one) == len(batches(stored)) == 3  # the short batch is dropped
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    other = next(iter(batches(stored).epoch(4)))["frames"]
    assert not torch.equal(one[0], other)


def test_processes_share_a_batch(stored: VolumeSet) -> None:
    whole = next(iter(batches(stored, batch_size=4).epoch(1)))
    parts = [
        next(iter(batches(stored, batch_size=4, rank=rank, world=2).epoch(1))) for rank in range(2)
    ]
    for name in ("frames", "targets"):
        together = torch.cat([part[name] for part in parts])
        assert torch.equal(together.nan_to_num(-1), whole[name].nan_to_num(-1))


def test_an_evaluation_sees_all_volumes_as_they_are(stored: VolumeSet) -> None:
    seen = list(batches(stored, training=False).epoch(0))
    assert [len(batch["frames"]) for batch in seen] == [2, 2, 2, 1]
    voxels, _ = stored.read(0)
    blocks = voxels.reshape(12, 4, 48, 4, 48, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(seen[0]["frames"][0, 0], blocks, atol=0.5)


def test_masks_move_with_their_volumes(masked: VolumeSet) -> None:
    for batch in batches(masked, batch_size=3).epoch(2):
        bright = batch["frames"][:, 0] > 75
        assert (bright == (batch["mask"] > 0)).float().mean() > 0.97
        assert not torch.equal(batch["mask"][0], batch["mask"][0].flip(-1))


def test_what_cannot_be_shared_or_learned_from_is_said(stored: VolumeSet) -> None:
    with pytest.raises(ConfigError, match="no multiple of 2 processes"):
        batches(stored, batch_size=3, world=2)
    with pytest.raises(StoreError, match="harvest more series"):
        VolumeBatches(stored, np.arange(1), batch_size=2, training=True, device=torch.device("cpu"))


def test_a_place_without_volumes_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no weak-label store"):
        from_store(tmp_path)
    WeakLabelStore(tmp_path / "store").close()
    with pytest.raises(StoreError, match=r"harvest\.modalities"):
        from_store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"\*\.npz"):
        from_folder(tmp_path)


def test_masks_that_are_drawn_anew_are_other_volumes(tmp_path: Path) -> None:
    volume = np.zeros(SHAPE, np.uint8)
    versions = set()
    for row in (0, 1, 0):
        mask = np.zeros(SHAPE, np.uint8)
        mask[:, row] = 1
        np.savez(tmp_path / "P1.npz", volume=volume, mask=mask)  # always of one size
        versions.add(from_folder(tmp_path).version)
    assert len(versions) == 2
    (tmp_path / "P1.npz").rename(tmp_path / "P2.npz")
    assert from_folder(tmp_path).version not in versions
    (tmp_path / "P3.npz").mkdir()
    with pytest.raises(StoreError, match=r"P3\.npz: cannot be read .*; write it again"):
        from_folder(tmp_path)


def test_a_file_that_is_no_volume_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "P1.npz", volume=np.zeros((2, 2, 2), np.uint8), mask=np.zeros((2, 2, 2)))
    (tmp_path / "P2.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "P3.npz", volume=np.zeros((2, 2, 2), np.uint8))
    found = from_folder(tmp_path)
    for place in range(3):
        with pytest.raises(StoreError, match="write it again"):
            found.read(place)


@pytest.mark.parametrize(("value", "cure"), [(3, "take --labels 4"), (255, "values of 0 to 15")])
def test_a_mask_with_more_values_than_labels_is_named(
    masked: VolumeSet, tmp_path: Path, value: int, cure: str
) -> None:
    check_masks(masked, 3)
    volume, mask = masked.read(1)
    assert mask is not None
    for name, largest in (("P1", 2), ("P2", value)):
        np.savez(tmp_path / f"{name}.npz", volume=volume, mask=np.minimum(mask, 1) * largest)
    with pytest.raises(StoreError, match=rf"P2\.npz: .*a value {value}, .*0 to 1; .*{cure}"):
        check_masks(from_folder(tmp_path), 2)
