"""Batches of a pack, ready on the device before they are asked for.

What is in a batch and how it is augmented follows from the seed, the epoch and the step alone, not
from the number of processes: together they get exactly the batch that one process would get. The
rows of an export (`training.pack.sharded`) are shuffled among a few shards at a time.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import Task
from training import augment, memory
from training.pack import Pack
from training.pack.order import WINDOW, windows

if TYPE_CHECKING:
    from training.pack.sharded import Pictures

TARGETS: Final = ("tags", "mask", "quality", "class")
#: Batches that are read before they are asked for.
READ_AHEAD: Final = 2
#: Frames that go to the device at a time when all of them are held there.
_CHUNK: Final = 1024
_TASKS = {"mask": Task.SEGMENTATION, "quality": Task.QUALITY, "class": Task.CLASSIFICATION}


class Source(Protocol):
    """Where a loop's batches come from: `Batches`, or what a pretext draws in its own way."""

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's part of each batch of one epoch, on the device.

        A batch has ``frames``, whose length counts as that of the batch. What is drawn must follow
        from the seed, `number` and the step alone, and every process must get as many batches.
        """


def fitting(batch_size: int, rows: int, world: int) -> int:
    """Return the batch size, or a smaller one that the rows fill and that can be shared evenly.

    Parameters
    ----------
    batch_size : int
        That was asked for.
    rows : int
        Frames to train on.
    world : int
        Processes.
    """
    return batch_size if batch_size <= rows else rows - rows % world


def held_bytes(pack: Pack, rows: NDArray[np.int64], targets: tuple[str, ...] = ()) -> int:
    """Return what rows take when all of them are held on a device."""
    pictures = 1 + ("mask" in targets and pack.masks is not None)
    return len(rows) * pack.size.height * pack.size.width * pictures


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of some rows of a pack.

    For training they are shuffled and augmented, and a last short batch is dropped unless it is the
    only one. Otherwise they come in order, as they are, and all of them.

    Raises
    ------
    ConfigError
        When a batch cannot be shared out evenly.
    StoreError
        When there are too few rows to train on.
    ValueError
        When a row lacks a target.
    """

    pack: Pack
    #: int64, (n,), of the pack
    rows: NDArray[np.int64]
    _: KW_ONLY
    #: of `TARGETS`: what a batch holds beside its frames
    targets: tuple[str, ...] = ()
    #: frames a step, of all processes together
    batch_size: int
    seed: int = 0
    training: bool
    #: this process, of how many
    rank: int = 0
    world: int = 1
    device: torch.device
    #: the label set or class set that all rows must be of; None does not ask
    labels: str | None = None
    #: hold all frames on the device when they take no more than this; None asks a GPU for a part of
    #: its free memory, and leaves a CPU to the page cache
    held_bytes: int | None = None

    def __post_init__(self) -> None:
        for target in self.targets:
            if not self._has(target).all():
                raise ValueError(f"rows without the target {target!r}, or one of another set")
        if not self.training:
            return
        if self.batch_size % self.world:
            raise ConfigError(
                f"batch size {self.batch_size} is no multiple of {self.world} processes; "
                "choose one that is"
            )
        if len(self.rows) < 2 * self.world:
            raise StoreError(
                f"{len(self.rows)} training frame(s) for {self.world} process(es), each of which "
                "needs two or more; label or harvest more studies, or use fewer devices"
            )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > 0 and not (self.training and whole))

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of one epoch; each process gets its part of each.

        Parameters
        ----------
        number : int
            Decides, with the seed, the order and the augmentation.

        Yields
        ------
        dict of Tensor, on the device
            ``frames`` uint8 (B, 1, H, W); of the targets ``tags`` float32 (B, 10), ``mask``
            int64 (B, H, W), ``quality`` int64 (B,), ``class`` int64 (B,). B may be 0 for some
            processes in the last batch of an evaluation; the parts of a batch follow each other
            in the order of the ranks.
        """
        order = self._order(number)
        load = partial(self._load, order, number)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            ahead: deque[Future[tuple[dict[str, Tensor], Tensor | None]]] = deque()
            for step in range(len(self)):
                ahead.append(reader.submit(load, step))
                if len(ahead) > READ_AHEAD:
                    yield self._on_device(*ahead.popleft().result())
            while ahead:
                yield self._on_device(*ahead.popleft().result())

    def _order(self, number: int) -> NDArray[np.int64]:
        if not self.training:
            return np.arange(len(self.rows))
        rng = np.random.default_rng((self.seed, number, 0))
        if self._shards is None:
            return rng.permutation(len(self.rows))
        # whole shards in turn, each read once an epoch; an export is shuffled already
        return windows(self._shards[self.rows], rng)

    def _load(
        self, order: NDArray[np.int64], number: int, step: int
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return this process's part of a batch, and how to change it, in host memory."""
        whole = order[step * self.batch_size : (step + 1) * self.batch_size]
        part = np.array_split(np.arange(len(whole)), self.world)[self.rank]
        places = whole[part]
        changes = None
        if self.training:
            rng = np.random.default_rng((self.seed, number, 1 + step))
            size = self.pack.size.height, self.pack.size.width
            changes = self._ready(augment.draw(len(whole), size, rng)[part])
        if self._held is not None:
            return {"places": self._ready(places)}, changes
        rows = self.rows[places]
        self._expect(order, step)
        read = {n: self._ready(array.take(rows, axis=0)) for n, array in self._pictures.items()}
        return read | {
            n: self._ready(column[places]) for n, column in self._columns.items()
        }, changes

    def _expect(self, order: NDArray[np.int64], step: int) -> None:
        """Have what is read of an export from this step on brought while others are read."""
        if not self.training or isinstance(self.pack.frames, np.ndarray):
            return
        begin = step * self.batch_size
        soon = order[begin : begin + WINDOW * self._frames_per_shard]
        self.pack.frames.expect(self.rows[soon])

    def _on_device(self, loaded: dict[str, Tensor], changes: Tensor | None) -> dict[str, Tensor]:
        batch = {name: self._moved(tensor) for name, tensor in loaded.items()}
        if self._held is not None:
            batch = {name: held[batch["places"]] for name, held in self._held.items()}
        if changes is not None:
            moved = self._moved(changes)
            for name in self._pictures:
                batch[name] = augment.apply(batch[name][:, None], moved)[:, 0]
        batch["frames"] = batch["frames"][:, None]  # (B, 1, H, W)
        if "mask" in batch:
            batch["mask"] = batch["mask"].long()
        return batch

    @cached_property
    def _shards(self) -> NDArray[np.int32] | None:
        """In which shard of an export each row of the pack lies; None of a pack on a disk."""
        frames = self.pack.frames
        return None if isinstance(frames, np.ndarray) else frames.shard

    @cached_property
    def _frames_per_shard(self) -> int:
        """How many of the rows lie in one shard, at most."""
        return int(np.bincount(self._shards[self.rows]).max()) if self._shards is not None else 0

    @cached_property
    def _pictures(self) -> "dict[str, NDArray[np.uint8] | Pictures]":
        """What is read of the pack's arrays, (N, H, W)."""
        pictures = {"frames": self.pack.frames}
        if "mask" in self.targets and self.pack.masks is not None:
            pictures["mask"] = self.pack.masks
        return pictures

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """The small targets of the rows, (n, ...)."""
        known = self.pack.rows
        columns: dict[str, NDArray[np.int8] | NDArray[np.int16]] = {
            "quality": known.quality,
            "class": known.class_index,
        }
        found: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {
            name: column[self.rows].astype(np.int64)
            for name, column in columns.items()
            if name in self.targets
        }
        if "tags" in self.targets:
            found["tags"] = self.pack.tags()[self.rows]
        return found

    @cached_property
    def _held(self) -> dict[str, Tensor] | None:
        """Everything of the rows on the device, or None where it is not held there."""
        needed = held_bytes(self.pack, self.rows, self.targets)
        if needed > (memory.room(self.device) if self.held_bytes is None else self.held_bytes):
            return None
        held = {name: torch.from_numpy(c).to(self.device) for name, c in self._columns.items()}
        for name, array in self._pictures.items():
            shape = (len(self.rows), self.pack.size.height, self.pack.size.width)
            held[name] = torch.empty(shape, dtype=torch.uint8, device=self.device)
            for start in range(0, len(self.rows), _CHUNK):
                chunk = array.take(self.rows[start : start + _CHUNK], axis=0)
                held[name][start : start + _CHUNK] = torch.from_numpy(chunk)
        return held

    def _ready(self, array: NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _has(self, target: str) -> NDArray[np.bool_]:
        """Whether each row has a target."""
        if target not in TARGETS:
            raise ValueError(f"no target {target!r}; there are {', '.join(TARGETS)}")
        fit = self.pack.select(labelled=_TASKS.get(target), labels=self.labels)
        return np.isin(self.rows, fit)
