"""Look through exports for training, as `dicom_node.store.pack_audit` looks through packs.

Everything below an address is looked at: names, descriptions, and every byte of every shard. What
cannot be looked at is a finding, too. Of a bucket neither the tags and other words that it keeps
beside an object are seen, nor what is in versions that it keeps of what was replaced.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.errors import NodeError
from dicom_node.store import catalogue, export_samples, exports, pack_audit
from dicom_node.store.export_places import Folder, Place, place
from dicom_node.store.finding import Finding
from dicom_node.store.packs import FAULTS
from dicom_node.store.shard_audit import Described, shard_faults

#: Told which export is looked at, how many of its shards were, and of how many.
Progress = Callable[[str, int, int], None]
#: Says how many of some frames the store holds.
_Held = Callable[[Sequence[str]], int]
_NEWEST: Final = re.compile(r"newest-(\d{2,5}x\d{2,5})\.json")
_MARK: Final = re.compile(rb"[0-9a-f]{32}")
#: Columns of ``index.npz``, and of what numbers they are.
_INDEX: Final = {
    "shard": np.int32,
    "frame": np.int64,
    "mask": np.int64,
    "frame_crc": np.uint32,
    "mask_crc": np.uint32,
}
_STRANGE: Final = "holds what no export holds; delete the export and make it again"
_DAMAGED: Final = "not readable; delete the export and give 'dicom-node train shards' again"
_UNFINISHED: Final = "not finished; delete it if no export is being made"
_FOREIGN: Final = "object(s) that no export has; delete them, or give exports a place of their own"
_COVERED: Final = "older version(s) that the bucket keeps were not looked at; delete them"
_ABSENT: Final = f"not looked at: {exports.ABSENT}"
_SHARDS: Final = "not looked at, as what describes them is not in order; make the export again"


def audit_exports(
    addresses: Sequence[str],
    store: Path,
    progress: Progress = lambda _name, _done, _total: None,
) -> list[Finding]:
    """Check all that lies at some addresses.

    Parameters
    ----------
    addresses : sequence of str
        Folders, or ``s3://BUCKET/PREFIX``.
    store : Path
        Of which the exports are: a frame that left it was erased.
    progress : callable

    Returns
    -------
    list of Finding
        They name addresses, and no object that `train shards` does not name so.
    """
    engine = catalogue.open_catalogue(store)

    def held(frame_ids: Sequence[str]) -> int:
        # hours may lie between two exports: nobody's log waits for them
        with for_reading(engine).begin() as connection:
            return pack_audit.in_store(frame_ids, connection)

    try:
        return [one for address in addresses for one in _looked_at(address, held, progress)]
    finally:
        engine.dispose()


def _looked_at(address: str, held: _Held, progress: Progress) -> Iterator[Finding]:
    named = f"exports {address}"
    try:
        where = place(address)
        if not where.is_there:
            yield Finding(where=named, what=_ABSENT)
            return
        for part, what in _place(where, held, progress):
            yield Finding(where=f"{named}{part and ' '}{part}", what=what)
    except NodeError as exc:
        yield Finding(where=named, what=f"not looked at: {exc}")
    except OSError as exc:
        yield Finding(where=named, what=f"not looked at: {exc.strerror}")


def _place(where: Place, held: _Held, progress: Progress) -> Iterator[tuple[str, str]]:
    keys = list(where.keys())
    names = exports.names(keys)
    pointers = [key for key in keys if _NEWEST.fullmatch(key)]
    foreign = [key for key in keys if not exports.names([key]) and key not in pointers]
    covered = [key for key in where.covered_keys() if not _NEWEST.fullmatch(key)]
    for found, what in ((foreign, _FOREIGN), (covered, _COVERED)):
        if found:
            yield "", f"{len(found)} {what}"
    for key in pointers:
        if not _is_pointer(key, where.read(key)):
            yield key, _STRANGE
    for name in sorted(names):
        parts = {key.removeprefix(f"{name}/") for key in keys if key.startswith(f"{name}/")}
        for part, what in _Looking(where, name, held, progress).faults(parts):
            yield f"{name}{part and '/'}{part}", what


def _is_pointer(key: str, content: bytes | None) -> bool:
    """Whether an object says which export is the newest of its size, and nothing else."""
    try:
        said = json.loads(content or b"")
        return (
            said.keys() == {"format", "export"}
            and content == export_samples.as_json(said)
            and type(said["format"]) is int
            and said["format"] in range(100)
            and exports.NAME.fullmatch(said["export"]) is not None
            and exports.NEWEST.format(said["export"].partition("-")[2]) == key
        )
    except (*FAULTS, AttributeError):
        return False


class _Looking:
    """A look through one export."""

    def __init__(self, where: Place, name: str, held: _Held, progress: Progress) -> None:
        self._where, self._name, self._held, self._progress = where, name, held, progress

    def faults(self, parts: set[str]) -> Iterator[tuple[str, str]]:
        """Yield which part has which fault."""
        if exports.ABOUT not in parts:
            yield "", _UNFINISHED
            return
        if not _MARK.fullmatch(self._read(exports.BEGUN)):
            yield exports.BEGUN, _STRANGE
        about = self._about()
        if about is None:
            yield exports.ABOUT, _STRANGE
            yield "shards", _SHARDS
            return
        shards = [exports.SHARD.format(number) for number in range(len(about["shards"]))]
        known = {exports.BEGUN, exports.ROWS, exports.INDEX, exports.ABOUT, *shards}
        if more := len(parts - known):
            yield "", f"{more} {_FOREIGN}"
        yield from self._described(about)

    def _described(self, about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        rows, index = (self._columns(name, about) for name in (exports.ROWS, exports.INDEX))
        if rows is None:
            yield exports.ROWS, _STRANGE
        elif gone := len(rows["frame_id"]) - self._held(rows["frame_id"].tolist()):
            what = f"{gone} frames that the store does not hold, as of somebody erased"
            yield exports.ROWS, what
        if index is None or (rows is not None and not _points(index, rows, about)):
            yield exports.INDEX, _STRANGE
        if rows is None or index is None:
            yield "shards", _SHARDS
            return
        yield from self._shards(about, _described(about, rows, index))

    def _read(self, part: str) -> bytes:
        return self._where.read(f"{self._name}/{part}") or b""

    def _about(self) -> dict[str, Any] | None:
        """Return what the export says it is, None where it says more or less than that."""
        said = self._read(exports.ABOUT)
        try:
            about: dict[str, Any] = json.loads(said)
            pack = about["pack"]
            size = f"{pack['size']['height']}x{pack['size']['width']}"
            digests = {
                name: hashlib.sha256(self._read(name)).hexdigest()
                for name in (exports.ROWS, exports.INDEX)
            }
            is_it = (
                about.keys() == {"export_format", "pack", "files", "shards"}
                and said == export_samples.as_json(about)
                and type(about["export_format"]) is int
                and about["export_format"] in range(100)
                and type(pack["frames"]) is int
                and pack_audit.says_nothing_else(pack, pack["frames"])
                and f"{pack['store_version']}-{size}" == self._name
                and about["files"] == digests
                and all(one.keys() == {"sha256", "bytes", "frames"} for one in about["shards"])
            )
        except (*FAULTS, AttributeError):
            return None
        return about if is_it else None

    def _columns(self, name: str, about: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
        """Return the columns of an archive, None where it holds anything else."""
        count, is_rows = about["pack"]["frames"], name == exports.ROWS
        names = pack_audit.COLUMNS if is_rows else frozenset(_INDEX)
        try:
            columns = pack_audit.columns_of(self._read(name), names)
            if columns is None or not is_rows:
                return columns if columns is None or _is_index(columns, count) else None
            return columns if pack_audit.fit(columns, count) else None
        except FAULTS:
            return None

    def _shards(self, about: Mapping[str, Any], described: Described) -> Iterator[tuple[str, str]]:
        total = len(about["shards"])
        for number, stated in enumerate(about["shards"]):
            part = exports.SHARD.format(number)
            with self._fetched(part) as path:
                if path is None:
                    yield part, _DAMAGED
                    continue
                if stated != _stated(path, number, described):
                    yield part, f"{exports.ABOUT} says another size or digest of it; {_STRANGE}"
                for fault in shard_faults(path, number, described):
                    yield part, f"{fault}; {_STRANGE}"
            self._progress(self._name, number + 1, total)

    @contextmanager
    def _fetched(self, part: str) -> Iterator[Path | None]:
        """Give a shard as a file, None where there is none."""
        key = f"{self._name}/{part}"
        if isinstance(self._where, Folder):
            path = self._where.path / key
            yield path if path.is_file() else None
            return
        with TemporaryDirectory(prefix="shards-") as scratch:
            path = Path(scratch) / part
            path.touch()
            yield path if self._where.fetch(key, path) else None


def _is_index(columns: Mapping[str, NDArray[Any]], count: int) -> bool:
    return all(
        columns[name].dtype == kind and columns[name].shape == (count,)
        for name, kind in _INDEX.items()
    )


def _points(
    index: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[Any]], about: Mapping[str, Any]
) -> bool:
    """Whether an index points into shards, and to masks where there are some."""
    bare = ~rows["has_mask"].astype(bool)
    numbers = set(np.unique(index["shard"]).tolist())
    return (
        numbers <= set(range(len(about["shards"])))
        and (index["mask"][bare] == export_samples.NONE).all()
        and not index["mask_crc"][bare].any()
    )


def _described(
    about: Mapping[str, Any],
    rows: Mapping[str, NDArray[Any]],
    index: Mapping[str, NDArray[Any]],
) -> Described:
    pack = about["pack"]

    def words(row: int) -> bytes:
        try:
            said = export_samples.words(rows, row, list(pack["label_sets"]), pack["class_sets"])
        except LookupError:  # a number of no set: whatever is said of it, it is not this
            return b""
        return export_samples.as_json(said)

    size = pack["size"]["height"], pack["size"]["width"]
    return Described(size=size, rows=rows, index=index, words=words)


def _stated(path: Path, number: int, described: Described) -> dict[str, Any]:
    """Return what the export should say of a shard."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    frames = int((described.index["shard"] == number).sum())
    return {"sha256": digest, "bytes": path.stat().st_size, "frames": frames}
