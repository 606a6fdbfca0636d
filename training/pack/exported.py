"""Open an export as a pack: from a folder as it lies, from a bucket through a cache.

What an export says of its rows is copied into the cache with the address that it came from, so that
the other processes of a run open it by that folder, as they open any pack.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from dicom_node.errors import ConfigError, StoreError
from dicom_node.store import exports
from dicom_node.store.export_places import Place, checked, is_url, place
from training.config import Size
from training.pack.cache import GIB, Cache
from training.pack.order import WINDOW
from training.pack.reading import FAULTS, known_of, rows_of
from training.pack.rows import Pack
from training.pack.sharded import Pictures, Shard, Shards, folder_of, shards_of
from training.pack.sharding import FORMAT

#: Of the folder in the cache: where the export is, and how much the cache may hold.
_SOURCE: Final = "source.json"
_DESCRIPTION: Final = (exports.ROWS, exports.INDEX, exports.ABOUT)
_COLUMNS: Final = ("shard", "frame", "mask", "frame_crc", "mask_crc")

_log = logging.getLogger(__name__)


def holds_exports(where: str) -> bool:
    """Whether an address is that of exports: a bucket's, or a folder that names a newest one."""
    if is_url(where):
        return True
    folder = Path(where)
    return folder.is_dir() and any(folder.glob(exports.NEWEST.format("*")))


def open_export(where: str, size: Size, cache: Cache, *, version: str | None = None) -> Pack:
    """Open the newest export of a size.

    Parameters
    ----------
    where : str
        A folder, or ``s3://BUCKET/PREFIX``.
    size : Size
        Of the frames.
    cache : Cache
        Takes shards of a bucket.
    version : str, optional
        Of the store that a run began with: its export is opened while it is there.

    Raises
    ------
    ConfigError
        When the address will not do, there is none of this size, or the cache is too small.
    StoreError or TemporaryError
        When there is no export, it is damaged, or it cannot be reached.
    """
    source = place(checked(where))
    kept = cache.folder / folder_of(source.address)
    if is_url(where):
        _forget_others(kept, source)
    name = f"{version}-{size}"
    if version is None or source.read(f"{name}/{exports.ABOUT}") is None:
        name = _newest(source, size)
    if not is_url(where):
        place_of = Path(where).resolve()
        return _opened(place_of / name, str(place_of), None)
    folder = kept / name
    contents = {}
    for part in _DESCRIPTION:
        content = source.read(f"{name}/{part}")
        if content is None:
            raise _damaged(source.address, name)
        contents[part] = content
    said = {"address": source.address, "limit_bytes": cache.limit_bytes}
    contents[_SOURCE] = json.dumps(said).encode()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for part, content in contents.items():
        _replace(folder / part, content)
    return _opened(folder, source.address, cache)


def newest_version(where: str, size: Size) -> str:
    """Return the version of the store that the newest export of a size is of.

    Raises
    ------
    ConfigError or StoreError
        When there is none, or what names it is damaged.
    """
    return _newest(place(checked(where)), size).partition("-")[0]


def reopened(folder: Path) -> Pack:
    """Open the folder of an export: one that lies there, or what a cache holds of one in a bucket.

    Raises
    ------
    StoreError
        When it is damaged.
    """
    try:
        said = json.loads((folder / _SOURCE).read_bytes())
        # <cache>/<source>/<export>
        cache = Cache(folder=folder.parents[1], limit_bytes=int(said["limit_bytes"]))
        return _opened(folder, str(said["address"]), cache)
    except FileNotFoundError:
        return _opened(folder.resolve(), str(folder.resolve().parent), None)
    except FAULTS:
        raise _damaged(str(folder.parent), folder.name) from None


def _newest(source: Place, size: Size) -> str:
    said = source.read(exports.NEWEST.format(size))
    if said is None:
        raise _no_such(source, size)
    try:
        name = json.loads(said)["export"]
    except FAULTS:
        name = ""
    if not isinstance(name, str) or not exports.NAME.fullmatch(name):
        raise StoreError(
            f"{source.address}/{exports.NEWEST.format(size)}: damaged; give "
            "'dicom-node train shards' again"
        )
    return name


def _no_such(source: Place, size: Size) -> ConfigError | StoreError:
    begin, end = exports.NEWEST.split("{}")
    found = [key.removeprefix(begin).removesuffix(end) for key in source.keys(begin)]
    if not found:
        return StoreError(
            f"{source.address}: no export here; make one with 'dicom-node train shards --to "
            f"{source.address}', or name a pack's folder"
        )
    height, _, width = found[0].partition("x")
    return ConfigError(
        f"--pack {source.address}: its frames are {', '.join(found)}, not {size}; give --height "
        f"{height} --width {width}, or export the other size"
    )


def _opened(folder: Path, address: str, cache: Cache | None) -> Pack:
    try:
        about = json.loads((folder / exports.ABOUT).read_bytes())
        if about["export_format"] != FORMAT:
            raise StoreError(
                f"{address}: an export of format {about['export_format']}, known is {FORMAT}; "
                "export it again with 'dicom-node train shards'"
            )
        contents = {name: (folder / name).read_bytes() for name in (exports.ROWS, exports.INDEX)}
        if about["files"] != {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}:
            raise ValueError("another digest")
        return _pack(folder, about, contents, address, cache)
    except FAULTS as exc:
        _log.debug("%s", type(exc).__name__)
        raise _damaged(address, folder.name) from None


def _pack(
    folder: Path,
    about: Mapping[str, Any],
    contents: Mapping[str, bytes],
    address: str,
    cache: Cache | None,
) -> Pack:
    known = about["pack"]
    count = known["frames"]
    rows = rows_of(io.BytesIO(contents[exports.ROWS]), count)
    with np.load(io.BytesIO(contents[exports.INDEX]), allow_pickle=False) as columns:
        index = {name: columns[name] for name in _COLUMNS}
    if {len(column) for column in index.values()} != {count}:
        raise ValueError("columns of different lengths")
    size = Size.model_validate(known["size"])
    described = shards_of(about["shards"])
    _check_room(described, cache)
    shards = Shards(address, folder.name, described, cache)

    def pictures(kind: str) -> Pictures:
        shape = size.height, size.width
        return Pictures(shards, index["shard"], index[kind], index[f"{kind}_crc"], shape)

    return Pack(
        folder=folder,
        rows=rows,
        frames=pictures("frame"),
        masks=pictures("mask") if known["masks"] else None,
        **known_of(known),
    )


def _check_room(shards: list[Shard], cache: Cache | None) -> None:
    """Refuse a cache in which shards would push each other out."""
    largest = max((one.size_bytes for one in shards), default=0)
    # the window that is read and the next, and two that are on their way
    needed = min(sum(one.size_bytes for one in shards), (2 * WINDOW + 2) * largest)
    if cache is not None and cache.limit_bytes < needed:
        raise ConfigError(
            f"--cache-gib {cache.limit_bytes / GIB:g}: this export needs {needed / GIB:.2f} or "
            f"more, {2 * WINDOW + 2} of its shards; raise it, or export with fewer "
            "--frames-per-shard"
        )


def _forget_others(kept: Path, source: Place) -> None:
    """Delete of the cache what its source no longer has: a patient of it may have been erased."""
    found = {path.name for path in kept.iterdir()} if kept.is_dir() else set()
    for name in found - exports.names(source.keys()):
        shutil.rmtree(kept / name, ignore_errors=True)


def _replace(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    part = path.with_name(f"{path.name}.{uuid4().hex}.new")
    part.write_bytes(content)
    part.replace(path)


def _damaged(address: str, name: str) -> StoreError:
    return StoreError(
        f"{address}/{name}: the export is damaged or gone; delete it there and give "
        "'dicom-node train shards' again"
    )
