"""Export a pack as tar shards: for a store larger than a disk, or a machine that reaches a bucket.

The order is shuffled once, by the version of the store, so that a reader who takes whole shards
still mixes patients. A sample is ``ID.frame.npy``, ``ID.mask.npy`` where a reader drew one, and
``ID.json``, as WebDataset reads it. An export is whole when its last object is there, which says
what it is; whoever finds less replaces it.
"""

import hashlib
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigError, TemporaryError
from dicom_node.store import export_samples, exports
from dicom_node.store.export_places import Place
from dicom_node.store.export_samples import as_json
from training.pack.rows import NONE, Pack

#: Of export.json.
FORMAT: Final = 1
#: 100 MB a shard at 256 x 384.
FRAMES_PER_SHARD: Final = 1024
#: What goes to a bucket in one request.
_MOST_BYTES: Final = 4 * 2**30
_OVERHEAD_BYTES: Final = 4096

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came of an export."""

    name: str
    shards: int
    #: whether it was there already
    was_there: bool
    #: exports of other versions that it replaced
    replaced: tuple[str, ...]


@dataclass
class _Index:
    """Where each row lies, by row."""

    shard: NDArray[np.int32]
    #: int64, the byte of the shard at which the pixels begin; -1 where there is no mask
    frame: NDArray[np.int64]
    mask: NDArray[np.int64]
    #: uint32, CRC-32 of the pixels, for who reads them alone
    frame_crc: NDArray[np.uint32]
    mask_crc: NDArray[np.uint32]
    shards: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> "_Index":
        return cls(
            shard=np.zeros(count, np.int32),
            frame=np.full(count, NONE, np.int64),
            mask=np.full(count, NONE, np.int64),
            frame_crc=np.zeros(count, np.uint32),
            mask_crc=np.zeros(count, np.uint32),
        )

    def columns(self) -> bytes:
        content = io.BytesIO()
        columns = {name: value for name, value in vars(self).items() if name != "shards"}
        np.savez_compressed(content, allow_pickle=False, **columns)
        return content.getvalue()


def name_of(pack: Pack) -> str:
    """Return the name of a pack's export."""
    return f"{pack.store_version}-{pack.size}"


def export(
    pack: Pack,
    to: Place,
    *,
    frames_per_shard: int = FRAMES_PER_SHARD,
    keep_old: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Exported:
    """Export a pack, unless its export is there; then say that it is the newest of its size.

    Exports of the same size and of other versions are deleted when the new one is whole and named
    as the newest.

    Parameters
    ----------
    pack : Pack
        With arrays on a disk.
    to : Place
        Holds the exports.
    frames_per_shard : int
        Of all shards but the last.
    keep_old : bool
        Leave exports of other versions to runs that go on with them.
    progress : callable
        Told how many frames are done, of how many.

    Raises
    ------
    ConfigError
        When a shard would be too large.
    StoreError or TemporaryError
        When the place does not take it, or somebody took the export away meanwhile.
    """
    row_bytes = pack.size.height * pack.size.width * (1 + (pack.masks is not None))
    if frames_per_shard * (row_bytes + _OVERHEAD_BYTES) > _MOST_BYTES:
        raise ConfigError(
            f"--frames-per-shard {frames_per_shard}: shards of more than 4 GiB; take fewer"
        )
    name = name_of(pack)
    was_there = to.read(f"{name}/{exports.ABOUT}") is not None
    shards = 0 if was_there else _Writing(pack, to, progress).run(frames_per_shard)
    newest = {"format": FORMAT, "export": name}
    to.put(exports.NEWEST.format(pack.size), as_json(newest))
    replaced = () if keep_old else _others(to, name, f"-{pack.size}")
    for other in replaced:
        # first what makes it an export: nobody opens one that is half gone
        to.delete(f"{other}/{exports.ABOUT}")
        to.delete(f"{other}/")
    return Exported(name=name, shards=shards, was_there=was_there, replaced=replaced)


def _others(to: Place, name: str, size: str) -> tuple[str, ...]:
    found = exports.names(to.keys()) - {name}
    return tuple(sorted(other for other in found if other.endswith(size)))


class _Writing:
    """One export on its way."""

    def __init__(self, pack: Pack, to: Place, progress: Progress) -> None:
        self._pack, self._to, self._progress = pack, to, progress
        self._name, self._mark = name_of(pack), uuid4().hex.encode()
        self._index = _Index.of(len(pack))

    def run(self, frames_per_shard: int) -> int:
        """Write everything and return the number of shards."""
        self._to.delete(f"{self._name}/")
        self._put(exports.BEGUN, self._mark)
        # an erasure deletes packs, then exports: it sees the mark, or this sees the pack gone
        if not (self._pack.folder / "pack.json").exists():
            raise self._gone()
        rows = (self._pack.folder / "rows.npz").read_bytes()
        self._put(exports.ROWS, rows)
        order = self._order()
        starts = range(0, len(order), frames_per_shard)
        with tempfile.TemporaryDirectory(prefix="shards-") as scratch:
            for number, start in enumerate(starts):
                self._shard(number, order[start : start + frames_per_shard], Path(scratch))
                self._progress(min(start + frames_per_shard, len(order)), len(order))
        index = self._index.columns()
        self._put(exports.INDEX, index)
        self._checked()
        self._put(exports.ABOUT, as_json(self._about({exports.ROWS: rows, exports.INDEX: index})))
        self._checked()
        return len(starts)

    def _order(self) -> NDArray[np.int64]:
        rng = np.random.default_rng(int(self._pack.store_version, 16))
        return rng.permutation(len(self._pack))

    def _shard(self, number: int, rows: NDArray[np.int64], scratch: Path) -> None:
        path = scratch / exports.SHARD.format(number)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows.tolist():
                self._sample(tar, number, row)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._index.shards.append(
            {"sha256": digest, "bytes": path.stat().st_size, "frames": len(rows)}
        )
        self._checked()
        self._put(path.name, path)
        path.unlink(missing_ok=True)

    def _sample(self, tar: tarfile.TarFile, shard: int, row: int) -> None:
        pack, index = self._pack, self._index
        key = str(pack.rows.frame_id[row])
        index.shard[row] = shard
        frame = np.asarray(pack.frames[row])
        index.frame[row] = _add_array(tar, f"{key}.frame.npy", frame)
        index.frame_crc[row] = zlib.crc32(frame.tobytes())
        if pack.masks is not None and pack.rows.has_mask[row]:
            mask = np.asarray(pack.masks[row])
            index.mask[row] = _add_array(tar, f"{key}.mask.npy", mask)
            index.mask_crc[row] = zlib.crc32(mask.tobytes())
        _add(tar, f"{key}.json", as_json(said_of(pack, row)))

    def _about(self, files: dict[str, bytes]) -> dict[str, Any]:
        pack = json.loads((self._pack.folder / "pack.json").read_text("utf-8"))
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        return {
            "export_format": FORMAT,
            "pack": pack,
            "files": digests,
            "shards": self._index.shards,
        }

    def _put(self, name: str, content: bytes | Path) -> None:
        self._to.put(f"{self._name}/{name}", content)

    def _checked(self) -> None:
        """Go on only while the export is this one's; else leave nothing of it.

        Raises
        ------
        TemporaryError
            When an erasure or another export deleted what was written.
        """
        found = self._to.read(f"{self._name}/{exports.BEGUN}")
        if found == self._mark:
            return
        if found is None:  # another export's objects are its own
            self._to.delete(f"{self._name}/")
        raise self._gone()

    def _gone(self) -> TemporaryError:
        return TemporaryError(
            f"{self._to.address}: {self._name} was deleted while it was written, as 'dicom-node "
            "store erase' or another export does; start again"
        )


def said_of(pack: Pack, row: int) -> dict[str, Any]:
    """Return what is known of a frame, in words."""
    return export_samples.words(vars(pack.rows), row, list(pack.label_sets), pack.class_sets)


def _add_array(tar: tarfile.TarFile, name: str, array: NDArray[np.uint8]) -> int:
    """Add an array to a tar and return the byte at which its numbers begin."""
    content = export_samples.as_array(array)
    return _add(tar, name, content) + len(content) - array.nbytes


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a file to a tar, and return the byte at which it begins."""
    begin = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(export_samples.member(name, len(content)), io.BytesIO(content))
    return begin
