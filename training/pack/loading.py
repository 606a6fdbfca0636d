"""A pack as a data set for torch's ``DataLoader``: workers hand over rows, not pixels.

To hand a batch of 3 MB over takes a worker much longer than to read it. So it brings the rows into
the page cache, which is what may take long, and says which they are; the process that asked for
the batch copies it out of its own mapping of the same file, at memory speed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from training.pack.reading import open as open_pack
from training.pack.rows import LIVE, Pack

#: Of memory on most machines; smaller ones are touched more often than they need.
PAGE_BYTES: Final = 4096


class Sample(Mapping[str, NDArray[Any]]):
    """One frame with what is known of it, read when it is asked for; as ``pack[place]``."""

    def __init__(self, pack: Pack, place: int) -> None:
        self.pack, self.place = pack, place

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.pack[self.place][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.pack[self.place])

    def __len__(self) -> int:
        return len(self.pack[self.place])


class _Ticket:
    """A batch on its way out of a worker."""

    def __init__(self, pack: Pack, places: NDArray[np.int64]) -> None:
        self._pack, self._places = pack, places

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self._pack.token, self._pack.folder, self._places)


def samples(pack: Pack, places: Sequence[int]) -> list[Sample]:
    """Return the items of a batch, which ``DataLoader``'s own collating makes one."""
    # as torch documents it for types of one's own; in the process that collates
    default_collate_fn_map.setdefault(Sample, _collate)
    return [Sample(pack, int(place)) for place in places]


def _collate(batch: Sequence[Sample], **_: object) -> dict[str, Tensor] | _Ticket:
    pack, places = batch[0].pack, np.array([one.place for one in batch], np.int64)
    if get_worker_info() is None:
        return _tensors(pack, places)
    for pictures in (pack.frames, pack.masks):
        if isinstance(pictures, np.ndarray):
            flat = pictures.reshape(len(pictures), -1)
            for part in (flat[:, ::PAGE_BYTES], flat[:, -1:]):
                part[places]  # one byte of each page
        elif pictures is not None:
            pictures.take(places)  # its shards are in the cache then
    return _Ticket(pack, places)


def _read(token: str, folder: Path, places: NDArray[np.int64]) -> dict[str, Tensor]:
    """Return a batch, in the process that asked for it."""
    return _tensors(LIVE.get(token) or open_pack(folder), places)


def _tensors(pack: Pack, places: NDArray[np.int64]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in pack[places].items()}
