"""The pictures of an export: whole shards where many of their frames are read, else single frames.

They are read as arrays are, by rows. Shards of a bucket come through a `Cache`; those that are
expected, and all where the cache holds the whole export, come whole and before they are asked for.
Of others only the frames that are asked for are read, which is what the offsets are for.
"""

import hashlib
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.store import exports
from dicom_node.store.export_places import place
from training.pack.cache import Cache
from training.pack.order import WINDOW

#: Requests at a time for single frames.
_AT_ONCE: Final = 16
#: Of a shard that breaks off or comes damaged.
_TRIES: Final = 3
#: Bytes that are looked at before a shard is mapped, at a time.
_PIECE: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What an export says of a shard."""

    key: str
    sha256: str
    size_bytes: int


class Shards:
    """The shards of an export; for several threads, and for processes that are forked off.

    Parameters
    ----------
    address : str
        Of the place that holds exports.
    name : str
        Of the export.
    shards : sequence of Shard
        All of them, in order.
    cache : Cache, optional
        Where they come to; None where they are read as they lie.
    """

    def __init__(
        self, address: str, name: str, shards: Sequence[Shard], cache: Cache | None
    ) -> None:
        self._address, self._name, self._shards, self._cache = address, name, shards, cache
        largest = max((one.size_bytes for one in shards), default=1)
        whole = sum(one.size_bytes for one in shards)
        limit = whole if cache is None else cache.limit_bytes
        self._keeps_all = whole <= limit
        # two windows: the one that is read, and the next
        self._most = max(2 * WINDOW, min(len(shards), limit // largest))
        self._begin()

    def _begin(self) -> None:
        # a process has threads and connections of its own
        self._process, self._source = os.getpid(), place(self._address)
        self._lock = threading.Lock()
        self._maps: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._coming: dict[int, Future[NDArray[np.uint8]]] = {}
        self._fetching = ThreadPoolExecutor(2, thread_name_prefix="shards")
        self._reading = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="frames")

    def expect(self, shards: Sequence[int]) -> None:
        """Begin to bring shards that will be read soon, in this order."""
        self._after_fork()
        for number in shards[: 2 * WINDOW]:
            self._brought(number)

    def mapped(self, number: int) -> NDArray[np.uint8] | None:
        """Return the bytes of a shard; None where its frames are better read one by one."""
        self._after_fork()
        with self._lock:
            coming = self._coming.get(number)
            is_here = number in self._maps
        if coming is None and not is_here and not self._keeps_all:
            return None
        return self._brought(number).result()

    def parts(self, spans: Sequence[tuple[int, int]], count: int) -> Iterator[bytes]:
        """Yield so many bytes from each place (shard, byte) of the source itself."""
        self._after_fork()
        yield from self._reading.map(partial(self._part, count), spans)

    def _part(self, count: int, span: tuple[int, int]) -> bytes:
        shard = self._shards[span[0]]
        found = self._source.part(f"{self._name}/{shard.key}", span[1], count)
        if found is None:
            raise self.gone()
        return found

    def _brought(self, number: int) -> Future[NDArray[np.uint8]]:
        with self._lock:
            if number in self._maps:
                self._maps.move_to_end(number)
                done: Future[NDArray[np.uint8]] = Future()
                done.set_result(self._maps[number])
                return done
            if number not in self._coming:
                self._coming[number] = self._fetching.submit(self._bring, number)
            return self._coming[number]

    def _bring(self, number: int) -> NDArray[np.uint8]:
        try:
            found = self._map(self._shards[number])
            with self._lock:
                self._maps[number] = found
                while len(self._maps) > self._most:
                    self._maps.popitem(last=False)
            return found
        finally:
            with self._lock:
                self._coming.pop(number, None)

    def _map(self, shard: Shard) -> NDArray[np.uint8]:
        """Return a shard whose bytes are those that were exported."""
        for _ in range(_TRIES):
            try:
                path = self._path(shard)
                found = np.memmap(path, np.uint8, "r")
            except FileNotFoundError:
                if self._cache is None:
                    raise self.gone() from None
                continue  # another process made room
            except ValueError:  # an empty file
                continue
            if _digest(found) == shard.sha256:
                return found
            if self._cache is not None:
                path.unlink(missing_ok=True)
        raise StoreError(
            f"{self._address}/{self._name}/{shard.key}: damaged, or the cache is too small "
            "for those who share it; export again with 'dicom-node train shards' after deleting "
            "this export, or raise --cache-gib"
        )

    def _path(self, shard: Shard) -> Path:
        key = f"{self._name}/{shard.key}"
        if self._cache is None:
            return Path(self._address) / key
        path = self._cache.folder / folder_of(self._address) / key
        return self._cache.got(path, shard.size_bytes, partial(self._fetch, key))

    def _fetch(self, key: str, path: Path) -> None:
        for left in reversed(range(_TRIES)):
            try:
                if self._source.fetch(key, path):
                    return
            except TemporaryError:
                if not left:
                    raise
                continue
            raise self.gone()

    def gone(self) -> StoreError:
        """Return the error of an export that is no longer there."""
        return StoreError(
            f"{self._address}/{self._name}: this export is gone: it was replaced by one of "
            "a newer version of the store, or a patient of it was erased; begin a new run with "
            "another --out, which takes the newest"
        )

    def _after_fork(self) -> None:
        if os.getpid() != self._process:
            self._begin()


class Pictures:
    """Frames or masks of an export, (N, H, W) of uint8, read by rows as an array is.

    Parameters
    ----------
    shards : Shards
    shard : ndarray of int32, (N,)
        In which each row lies.
    offset : ndarray of int64, (N,)
        At which byte of it; below 0 where a row has none, and is all 0.
    crc : ndarray of uint32, (N,)
        CRC-32 of its pixels.
    size : tuple of int
        H and W.
    """

    dtype: Final = np.dtype(np.uint8)

    def __init__(
        self,
        shards: Shards,
        shard: NDArray[np.int32],
        offset: NDArray[np.int64],
        crc: NDArray[np.uint32],
        size: tuple[int, int],
    ) -> None:
        self.shards, self.shard = shards, shard
        self._offset, self._crc = offset, crc
        self.shape = (len(shard), *size)

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Return a copy of rows, in the order given."""
        return self.take(rows)

    def take(self, rows: Any, axis: int = 0) -> NDArray[np.uint8]:
        """Return a copy of rows, in the order given; `axis` is that of the rows.

        Raises
        ------
        StoreError
            When they are damaged, or the export is gone.
        TemporaryError
            When the storage gives no answer.
        """
        if axis:
            raise ValueError("rows alone are taken")
        # as NumPy understands them
        places: NDArray[np.int64] = np.asarray(np.arange(len(self))[rows])
        flat = places.reshape(-1)
        found = np.zeros((len(flat), self.shape[1] * self.shape[2]), np.uint8)
        has_any = self._offset[flat] >= 0
        for number in np.unique(self.shard[flat[has_any]]).tolist():
            self._fill(found, np.flatnonzero(has_any & (self.shard[flat] == number)), flat, number)
        return found.reshape(*places.shape, *self.shape[1:])

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Begin to bring the shards of rows that will be read soon."""
        numbers, first = np.unique(self.shard[rows], return_index=True)
        self.shards.expect(numbers[np.argsort(first)].tolist())

    def _fill(
        self, found: NDArray[np.uint8], at: NDArray[np.int64], rows: NDArray[np.int64], number: int
    ) -> None:
        """Fill the places `at` with those of the rows that lie in one shard."""
        count = found.shape[1]
        shard = self.shards.mapped(number)
        begins = self._offset[rows[at]].tolist()
        if shard is not None:
            for place, begin in zip(at.tolist(), begins, strict=True):
                found[place] = shard[begin : begin + count]
            return
        parts = self.shards.parts([(number, begin) for begin in begins], count)
        for place, content in zip(at.tolist(), parts, strict=True):
            if len(content) != count or zlib.crc32(content) != self._crc[rows[place]]:
                raise StoreError("a frame of the export came damaged; export it again")
            found[place] = np.frombuffer(content, np.uint8)


def folder_of(address: str) -> str:
    """Return the name of a source's folder in a cache."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _digest(content: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(content), _PIECE):
        digest.update(content[start : start + _PIECE].data)
    return digest.hexdigest()


def shards_of(about: Sequence[dict[str, Any]]) -> list[Shard]:
    """Return the shards that an export names."""
    return [
        Shard(key=exports.SHARD.format(n), sha256=one["sha256"], size_bytes=one["bytes"])
        for n, one in enumerate(about)
    ]
