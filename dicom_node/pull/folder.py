"""Take the DICOM files of a folder, each as an instance that arrived."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import Final

from dicom_node.errors import InboxFullError, UnreadableError
from dicom_node.header import read_header, text
from dicom_node.pull.asked import Incoming, Keep, is_uid
from dicom_node.pull.pace import Pace
from dicom_node.pull.part10 import (
    HEAD_BYTES,
    MEDIA_STORAGE_DIRECTORY,
    FileMeta,
    file_meta_of,
    is_bare,
    is_part10,
)
from dicom_node.pull.reconciled import Told

_FRAGMENT_BYTES: Final = 1 << 20
#: Out of resources (PS3.4 B.2.3)
_FULL: Final = 0xA700
_KEYWORDS: Final = ("SOPClassUID", "SOPInstanceUID")


class Fate(StrEnum):
    """What became of a file."""

    #: kept in the inbox, durably
    TAKEN = "taken"
    #: the same data set is registered, or waits
    HERE = "here already"
    NO_DICOM = "no DICOM"
    #: a data set, of which nothing says how it is encoded
    BARE = "DICOM without preamble"
    #: a DICOMDIR: the files that it names are looked at themselves
    DIRECTORY = "DICOMDIR"
    #: of a class or transfer syntax that the node does not take
    REFUSED = "not taken"
    UNREADABLE = "not readable"


#: Nothing that should be here is missing.
GOOD: Final = frozenset({Fate.TAKEN, Fate.HERE, Fate.NO_DICOM, Fate.DIRECTORY})


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What is here, and how more is kept."""

    #: SHA-256 of the data sets under a SOP Instance UID, registered or not yet
    digests: Callable[[str], Collection[str]]
    keep: Keep


def take_folder(
    folder: Path,
    shelf: Shelf,
    pace: Pace,
    *,
    tell: Callable[[Told], None] = lambda _: None,
    left: Callable[[Path, Fate], None] = lambda *_: None,
) -> Counter[Fate]:
    """Put each DICOM file of a folder into the inbox; what is here already costs a look.

    Parameters
    ----------
    folder : Path
        Walked with its sub-folders; links are not followed.
    shelf : Shelf
    pace : Pace
        Where it limits studies, each file counts as one.
    tell : callable
        Told how far it is.
    left : callable
        Told each file that should be here and is not, and why.

    Raises
    ------
    InboxFullError
        When there is no room; begun anew it goes on from there.
    """
    total = sum(1 for _ in _files(folder))
    fates: Counter[Fate] = Counter()
    for number, path in enumerate(_files(folder)):
        tell(Told(step="files", done=number, total=total))
        pace.wait()
        fate = _take(path, shelf)
        fates[fate] += 1
        if fate is Fate.TAKEN:
            pace.spent(studies=1, instances=1)
        if fate not in GOOD:
            left(path, fate)
    tell(Told(step="files", done=total, total=total))
    return fates


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _take(path: Path, shelf: Shelf) -> Fate:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not is_part10(head):
                return Fate.BARE if is_bare(head) else Fate.NO_DICOM
            meta = file_meta_of(head)
            if meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY:
                return Fate.DIRECTORY
            return _put(file, _instance(path, file, meta), meta.offset, shelf)
    except (OSError, UnreadableError):
        return Fate.UNREADABLE


def _instance(path: Path, file: BufferedReader, meta: FileMeta) -> Incoming:
    # of the data set: what makes files anonymous often leaves those of the meta information behind
    header = read_header(path, _KEYWORDS)
    sop_class_uid, uid = (text(header, keyword) for keyword in _KEYWORDS)
    if not is_uid(uid):
        raise UnreadableError("SOPInstanceUID is not a UID: 1 to 64 digits and dots")
    return Incoming(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        fragments=iter(lambda: file.read(_FRAGMENT_BYTES), b""),
    )


def _put(file: BufferedReader, incoming: Incoming, offset: int, shelf: Shelf) -> Fate:
    here = shelf.digests(incoming.sop_instance_uid)
    # other bytes under the same UID are for the node to judge
    if here and data_set_digest(file, offset) in here:
        return Fate.HERE
    file.seek(offset)
    status = shelf.keep(incoming)
    if status == _FULL:
        raise InboxFullError(
            "the inbox has no room: free disk space, or raise node.inbox_quota_gib; the same line "
            "goes on then"
        )
    return Fate.REFUSED if status else Fate.TAKEN


def data_set_digest(file: BufferedReader, offset: int) -> str:
    """Return the SHA-256 of what follows in a file, hexadecimal."""
    file.seek(offset)
    return hashlib.file_digest(file, "sha256").hexdigest()
