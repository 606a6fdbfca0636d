"""Look through the packs of a store, as `dicom_node.store.audit` looks through the store itself.

A pack holds what the store holds, resized, so its pictures cannot be held against their digests:
their number and size are. What stands beside them is held against what the store may hold.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence, Set
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import sqlalchemy as sa
from numpy.lib import format as npy
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.records import GROUPS, Geometry
from dicom_node.store import catalogue
from dicom_node.store.finding import DIGEST, Finding
from dicom_node.store.label_sets import class_sets, label_sets
from dicom_node.store.packs import FAULTS, PACK_FILES, UNFINISHED
from dicom_node.store.records import BEST_QUALITY
from dicom_node.store.split import SPLITS

#: As training names them: version and size, locked while they are built.
_NAME = re.compile(rf"[0-9a-f]{{16}}-\d{{2,5}}x\d{{2,5}}({'|'.join(map(re.escape, UNFINISHED))})?")
_LOCK = re.compile(r"[0-9a-f]{16}-\d{2,5}x\d{2,5}\.lock")
_VERSION = re.compile(r"[0-9a-f]{16}")
_ID_BEGINS = re.compile(r"[0-9a-f]{12}")
#: Of the columns besides the frame's id: the highest value; -1 is "none".
_HIGHEST = {
    "frame_number": 1_000_000,
    "split": len(SPLITS) - 1,
    "groups": 2 ** len(GROUPS) - 1,
    "geometry": len(Geometry) - 1,
    "quality": BEST_QUALITY,
    "has_mask": 1,
    **dict.fromkeys(("label_set", "class_set", "class_index"), 99),
}
#: Columns that count from 0 what a frame is of.
_COUNTED = ("patient", "study", "instance")
#: Of rows.npz, in packs and in exports.
COLUMNS = frozenset({"frame_id", *_HIGHEST, *_COUNTED})
_ASKED_AT_ONCE = 10_000
#: Of a zip (APPNOTE 4.3): the fixed parts of what stands before a member, of its entry and at the
#: end; and the field that NumPy leaves room in for large members, with its length.
_LOCAL, _CENTRAL, _END = 30, 46, 22
_ZIP64 = struct.pack("<HH", 1, 16)
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_DAMAGED = "not readable; delete the pack, the next training builds it again"
_MISNAMED = "a name of its own; name it as its version and size: VERSION-HEIGHTxWIDTH"
_STRANGE = "holds what no pack holds; delete the pack, the next training builds it again"


def audit_packs(folder: Path, store: Path) -> list[Finding]:
    """Check all that lies in a folder of packs.

    Parameters
    ----------
    folder : Path
        Holds one folder a pack; may be missing.
    store : Path
        Of which the packs are: a frame that left it was erased.

    Returns
    -------
    list of Finding
        They name no file and no folder that training does not name so.
    """
    engine = catalogue.open_catalogue(store)
    try:
        with for_reading(engine).begin() as connection:
            return list(_packs(folder, connection))
    finally:
        engine.dispose()


def _packs(folder: Path, connection: sa.Connection) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_named = _NAME.fullmatch(path.name) is not None
        place = f"pack {path.name}" if is_named else "pack ..."
        if path.is_symlink() or not path.is_dir():
            if not _LOCK.fullmatch(path.name) or path.stat().st_size:
                yield Finding(where="file ... beside the packs", what="no pack; delete it")
            continue
        if not is_named:
            yield Finding(where=place, what=_MISNAMED)
        if not {one.name for one in path.iterdir()} <= PACK_FILES:
            yield Finding(where=place, what="other files than a pack has; delete them")
        elif path.name.endswith(UNFINISHED):
            yield Finding(where=place, what="not finished; delete it if no training begins")
        else:
            yield from (Finding(where=f"{place} {n}", what=w) for n, w in _pack(path, connection))


def _pack(path: Path, connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Yield which file of a pack has which fault."""
    try:
        said = (path / "pack.json").read_text("utf-8")
        about = json.loads(said)
        size = int(about["size"]["height"]), int(about["size"]["width"])
        count = int(about["frames"])
        rows = columns_of((path / "rows.npz").read_bytes(), COLUMNS)
    except FAULTS:
        yield "pack.json, rows.npz", _DAMAGED
        return
    # a key that stands twice is read once
    if f"{json.dumps(about, indent=1)}\n" != said or not says_nothing_else(about, count):
        yield "pack.json", _STRANGE
    if rows is None or not fit(rows, count):
        yield "rows.npz", _STRANGE
    elif gone := count - in_store(rows["frame_id"].tolist(), connection):
        yield "rows.npz", f"{gone} frames that the store does not hold, as of somebody erased"
    for name in sorted(one.name for one in path.glob("*.npy")):
        if not _is_array(path / name, (count, *size)):
            yield name, _STRANGE


def in_store(frame_ids: Sequence[str], connection: sa.Connection) -> int:
    """Return how many of these frames the store has."""
    frame_id = catalogue.frames.c.frame_id
    starts = range(0, len(frame_ids), _ASKED_AT_ONCE)
    parts = (frame_ids[start : start + _ASKED_AT_ONCE] for start in starts)
    held = (sa.select(sa.func.count()).where(frame_id.in_(part)) for part in parts)
    return sum(connection.scalar(query) or 0 for query in held)


def columns_of(content: bytes, names: Set[str]) -> dict[str, NDArray[Any]] | None:
    """Return the columns of an ``.npz``, None where it holds anything but these.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile and others of `FAULTS`
        When it cannot be read.
    """
    with ZipFile(BytesIO(content)) as archive:
        members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
        if members.keys() != names or not _is_plain(content, archive):
            return None
        found = {name: _array(archive.read(one)) for name, one in members.items()}
    columns = {name: one for name, one in found.items() if one is not None}
    return columns if columns.keys() == names else None


def _is_plain(content: bytes, archive: ZipFile) -> bool:
    """Whether an archive is its members one behind the other, of no time, and no other byte."""
    place = ends = 0
    for one in archive.infolist():
        name = one.filename.encode()
        if one.header_offset != place or one.extra or one.comment or one.date_time != _NO_TIME:
            return False
        of_name, of_extra = struct.unpack_from("<HH", content, place + _LOCAL - 4)
        extra = content[place + _LOCAL + of_name :][:of_extra]
        if content[place + _LOCAL :][:of_name] != name or extra[:4] not in (b"", _ZIP64):
            return False
        place += _LOCAL + of_name + of_extra + one.compress_size
        ends += _CENTRAL + len(name)
    return archive.start_dir == place and len(content) == place + ends + _END


def _array(content: bytes) -> NDArray[Any] | None:
    """Return an array, None where its file says more than that."""
    array: NDArray[Any] = np.load(BytesIO(content), allow_pickle=False)
    head = BytesIO()
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(array))
    is_plain = len(content) == len(head.getvalue()) + array.nbytes
    return array if is_plain and content.startswith(head.getvalue()) else None


def fit(rows: Mapping[str, NDArray[Any]], count: int) -> bool:
    """Whether the columns hold digests and small numbers."""
    highest = _HIGHEST | dict.fromkeys(_COUNTED, count - 1)
    numbers = (rows[name] for name in highest)
    if not all(one.dtype.kind in "iub" and one.shape == (count,) for one in numbers):
        return False
    ids = rows["frame_id"]
    return (
        all(((rows[n].astype(int) >= -1) & (rows[n] <= most)).all() for n, most in highest.items())
        and ids.shape == (count,)
        and all(DIGEST.fullmatch(str(one)) for one in ids.tolist())
    )


def _is_array(path: Path, shape: tuple[int, int, int]) -> bool:
    """Whether a file is an array of this shape and nothing behind it."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FAULTS:
        return False
    is_whole = path.stat().st_size == array.offset + array.nbytes
    return bool(array.shape == shape and array.dtype == np.uint8 and is_whole)


def says_nothing_else(about: Mapping[str, Any], frames: int) -> bool:
    """Whether pack.json has the words that training writes, and no other."""
    labels = {name: list(one.names) for name, one in label_sets().items()}
    classes = {name: list(one.names) for name, one in class_sets().items()}
    sizes = {"height": range(65536), "width": range(65536)}
    try:
        left_out = about["left_out"]
        return (
            about
            == {
                "format": about["format"],
                "store_version": about["store_version"],
                "size": {name: about["size"][name] for name in sizes},
                "frames": frames,
                "masks": about["masks"],
                "splits": list(SPLITS),
                "geometries": [one.value for one in Geometry],
                "groups": list(GROUPS),
                "label_sets": {name: labels[name] for name in about["label_sets"]},
                "class_sets": {name: classes[name] for name in about["class_sets"]},
                "left_out": left_out,
            }
            and about["format"] in range(100)
            and about["masks"] in range(frames + 1)
            and all(about["size"][name] in allowed for name, allowed in sizes.items())
            and _VERSION.fullmatch(about["store_version"]) is not None
            and all(_ID_BEGINS.fullmatch(one) for one in left_out)
        )
    except FAULTS:
        return False
