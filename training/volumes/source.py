"""Volumes of a store, or of a folder with masks, in batches."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.errors import ConfigError, StoreError
from dicom_node.store import open_store
from dicom_node.store.split import split_of
from dicom_node.store.volumes import SHAPE, version
from training.config import MOST_LABELS
from training.volumes.targets import rows_of

Voxels = NDArray[np.uint8]
#: So much is kept in memory of what was read, by each source: 1200 volumes that are not shrunk.
_HELD_BYTES: Final = 2 * 2**30
#: A volume is moved by up to this part of its sides, and its grey values are spread by so much.
_SHIFT: Final = 0.08
_GAIN: Final = 0.15


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeSet:
    """Volumes that something can be learned from; read when they are asked for."""

    #: of the content
    version: str
    #: names of the volumes, and what stands for their patients
    names: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    #: float32, (N, columns of `training.volumes.targets`); None where there are masks
    targets: NDArray[np.float32] | None
    #: voxels of the volume at a place, and its mask where there is one
    read: Callable[[int], tuple[Voxels, Voxels | None]]

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Return the places of one split."""
        return np.flatnonzero(np.array(self.splits) == split)


def from_store(folder: Path) -> VolumeSet:
    """Return the volumes of a weak-label store with their labels.

    Raises
    ------
    StoreError
        When there is no store, or no volume in it.
    """
    with open_store(folder) as store:
        found = store.volumes.all()
        book = store.volumes
    if not found:
        raise StoreError(
            f"{folder}: no volumes; name CT or MR in harvest.modalities and harvest series"
        )
    return VolumeSet(
        version=version(found),
        names=tuple(one.volume_id for one in found),
        patients=tuple(one.patient for one in found),
        splits=tuple(one.split for one in found),
        targets=rows_of([one.labels for one in found]),
        read=lambda place: (book.voxels(found[place].volume_id), None),
    )


def from_folder(folder: Path) -> VolumeSet:
    """Return the volumes of a folder of ``PATIENT.npz`` or ``PATIENT_anything.npz`` with masks.

    Each holds ``volume`` and ``mask``, uint8, 48 x 192 x 192. Patients are split by a digest of
    their name, as those of a store are.

    Raises
    ------
    StoreError
        When there is none, or one cannot be read.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise StoreError(
            f"{folder}: no volumes (*.npz with 'volume' and 'mask'); name their folder"
        )
    patients = tuple(path.stem.split("_")[0] for path in paths)
    return VolumeSet(
        version=_version(paths),
        names=tuple(path.stem for path in paths),
        patients=patients,
        splits=tuple(map(split_of, patients)),
        targets=None,
        read=lambda place: _masked(paths[place]),
    )


def check_masks(volumes: VolumeSet, labels: int) -> None:
    """Look into all masks: of what is met later, the test's comes after the whole training.

    Parameters
    ----------
    volumes : VolumeSet
        Of `from_folder`.
    labels : int
        Values that a network tells apart, with 0.

    Raises
    ------
    StoreError
        When a mask holds other values, or a file cannot be read.
    """
    largest = 0, ""
    for place, name in enumerate(volumes.names):
        _, mask = volumes.read(place)
        if mask is not None:
            largest = max(largest, (int(mask.max()), name))
    value, name = largest
    if value >= labels:
        cure = (
            f"take --labels {value + 1}"
            if value < MOST_LABELS
            else f"write it again with values of 0 to {MOST_LABELS - 1}"
        )
        raise StoreError(
            f"{name}.npz: the mask holds a value {value}, where --labels {labels} has 0 to "
            f"{labels - 1}; {cure}"
        )


def _version(paths: list[Path]) -> str:
    """Return a name for files: drawn anew, they have the same names and sizes."""
    whole = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
        except OSError as exc:
            raise StoreError(f"{path}: cannot be read ({exc.strerror}); write it again") from None
        whole.update(f"{content.hexdigest()} {path.name}\n".encode())
    return whole.hexdigest()[:16]


def _masked(path: Path) -> tuple[Voxels, Voxels | None]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            volume, mask = arrays["volume"], arrays["mask"]
    except (OSError, ValueError, KeyError, BadZipFile) as exc:
        raise StoreError(
            f"{path.name}: no 'volume' and 'mask' in it ({type(exc).__name__}); write it again"
        ) from None
    if not (volume.shape == mask.shape == SHAPE and volume.dtype == mask.dtype == np.uint8):
        raise StoreError(f"{path.name}: volume and mask are to be uint8 of {SHAPE}; write it again")
    return volume, mask


@dataclass(frozen=True, eq=False)
class VolumeBatches:
    """Batches of some volumes, a `training.batches.Source`.

    As for frames, what is in a batch follows from seed, epoch and step, whatever the number of
    processes. Where volumes are shrunk, blocks of voxels are averaged, and every n-th voxel of a
    mask is taken.

    Raises
    ------
    ConfigError
        When a batch cannot be shared out evenly.
    StoreError
        When there are too few volumes to train on.
    """

    volumes: VolumeSet
    #: int64, (n,)
    places: NDArray[np.int64]
    _: KW_ONLY
    batch_size: int
    training: bool
    seed: int = 0
    shrink: int = 1
    rank: int = 0
    world: int = 1
    device: torch.device
    #: volumes and masks by place, as they were read and shrunk
    _held: dict[int, tuple[Voxels, Voxels | None]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.training and self.batch_size % self.world:
            raise ConfigError(
                f"batch size {self.batch_size} is no multiple of {self.world} processes; "
                "choose one that is"
            )
        if self.training and len(self.places) < 2 * self.world:
            raise StoreError(
                f"{len(self.places)} training volume(s) for {self.world} process(es), each of "
                "which needs two or more; harvest more series, or use fewer devices"
            )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        whole, rest = divmod(len(self.places), self.batch_size)
        return whole + (rest > 0 and not (self.training and whole))

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of an epoch, the next one read meanwhile.

        Yields
        ------
        dict of Tensor, on the device
            ``frames`` uint8 (B, 1, S, R, C), and ``targets`` float32 (B, columns) or ``mask`` int64
            (B, S, R, C).
        """
        order = np.arange(len(self.places))
        if self.training:
            order = np.random.default_rng((self.seed, number, 0)).permutation(order)
        with ThreadPoolExecutor(1, thread_name_prefix="volumes") as reader:
            ahead = reader.submit(self._load, order, number, 0)
            for step in range(len(self)):
                batch = ahead.result()
                if step + 1 < len(self):
                    ahead = reader.submit(self._load, order, number, step + 1)
                yield {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _load(self, order: NDArray[np.int64], number: int, step: int) -> dict[str, Tensor]:
        whole = order[step * self.batch_size : (step + 1) * self.batch_size]
        part = np.array_split(np.arange(len(whole)), self.world)[self.rank]
        rng = np.random.default_rng((self.seed, number, 1 + step))
        drawn = rng.uniform(-1, 1, (len(whole), 4))[part]
        places = self.places[whole[part]]
        read = [self._seen(int(place)) for place in places]
        side = tuple(size // self.shrink for size in SHAPE)
        frames = np.empty((len(read), 1, *side), np.uint8)
        masks = np.empty((len(read), *side), np.int64)
        for at, (seen, truth) in enumerate(read):
            frames[at, 0] = _changed(seen, drawn[at], brighter=True) if self.training else seen
            if truth is not None:
                masks[at] = _changed(truth, drawn[at]) if self.training else truth
        batch = {"frames": torch.from_numpy(frames)}
        if self.volumes.targets is not None:
            return batch | {"targets": torch.from_numpy(self.volumes.targets[places])}
        return batch | {"mask": torch.from_numpy(masks)}

    def _seen(self, place: int) -> tuple[Voxels, Voxels | None]:
        """Return a volume and its mask, shrunk; read once where memory allows."""
        if place in self._held:
            return self._held[place]
        voxels, mask = self.volumes.read(place)
        every = slice(self.shrink // 2, None, self.shrink)
        truth = None if mask is None else np.ascontiguousarray(mask[every, every, every])
        seen = _shrunk(voxels, self.shrink), truth
        if (len(self._held) + 1) * seen[0].nbytes <= _HELD_BYTES:
            self._held[place] = seen
        return seen


def _changed(voxels: Voxels, drawn: NDArray[np.float64], *, brighter: bool = False) -> Voxels:
    """Mirror and move a volume within its slices, and change its grey; all drawn from -1 to 1."""
    seen = voxels[..., ::-1] if drawn[0] > 0 else voxels
    if brighter:
        seen = np.clip(seen * (1 + _GAIN * drawn[3]), 0, 255).astype(np.uint8)
    moved = np.zeros_like(seen)
    shifts = np.round(_SHIFT * drawn[1:3] * np.array(voxels.shape[1:])).astype(int)
    to, of = zip(*map(_overlap, shifts, voxels.shape[1:]), strict=True)
    moved[:, to[0], to[1]] = seen[:, of[0], of[1]]
    return moved


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Return where something goes that is shifted, and what part of it."""
    return slice(max(0, shift), side + min(0, shift)), slice(max(0, -shift), side - max(0, shift))


def _shrunk(voxels: Voxels, by: int) -> Voxels:
    """Return the means of blocks of `by` voxels a side."""
    if by == 1:
        return voxels
    slices, rows, columns = (side // by for side in voxels.shape)
    blocks = voxels.reshape(slices, by, rows, by, columns, by)
    means: Voxels = blocks.mean(axis=(1, 3, 5), dtype=np.float32).round().astype(np.uint8)
    return means
