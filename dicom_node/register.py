"""From the inbox to the index: read each waiting file's header and register it.

Safe to kill at any moment: a file leaves ``new/`` only after its row is committed, and a row that
stands already is found again.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset

from dicom_node import log, metrics
from dicom_node.errors import PermanentError, UnreadableError
from dicom_node.header import BROKEN_BYTES, data_set_bytes, data_set_offset, read_header, text
from dicom_node.inbox import Inbox, received_at
from dicom_node.index import Arrival, Index, Outcome
from dicom_node.records import Instance, checked_uid

_UIDS: Final = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
_KEYWORDS: Final = (*_UIDS, "PatientID", "SpecificCharacterSet")
#: Inflating such a data set may take any amount of memory; the receiver accepts none.
_DEFLATED: Final = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
_BATCH: Final = 256
#: What cannot be put into quarantine, as on a full disk, is tried again after so long.
PUT_OFF_S: Final = 60.0
_PIXEL_KEYWORDS: Final = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PhotometricInterpretation",
    "PixelData",
)
#: longer values are passed over, Pixel Data above all
_DEFER_BYTES: Final = 256


@dataclass(frozen=True, kw_only=True)
class RegisterCounts:
    """What became of the waiting files."""

    new: int = 0
    duplicates: int = 0
    #: same SOP Instance UID, other bytes: the later file is in quarantine, or the earlier one
    #: where its pixels are incomplete and the later file's are not
    conflicts: int = 0
    #: not usable: in quarantine
    unreadable: int = 0

    @property
    def total(self) -> int:
        """Files that left the waiting line."""
        return sum(self.as_dict().values())

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


def register_waiting(
    inbox: Inbox, index: Index, *, now: datetime, limit: int = _BATCH
) -> RegisterCounts:
    """Register the files that wait longest; one bad file stops no other.

    Parameters
    ----------
    inbox : Inbox
    index : Index
    now : datetime
        No arrival is dated later, so that a clock that was set back holds no study open.
    limit : int
        How many files at most, in one transaction.
    """
    return _register(inbox, index, inbox.line.take(limit), now)


def rebuild(inbox: Inbox, index: Index) -> int:
    """Adopt the kept files that the index does not know; at start-up, cheap when none is missing.

    Returns
    -------
    int
        How many files were adopted or put into quarantine.
    """
    now = datetime.now(UTC)
    found = 0
    for file_ids in inbox.kept():
        orphans = index.unknown(file_ids)
        for start in range(0, len(orphans), _BATCH):
            found += _register(inbox, index, orphans[start : start + _BATCH], now).total
    metrics.count(metrics.ADOPTED, by=found)
    return found


def _register(inbox: Inbox, index: Index, file_ids: Sequence[str], now: datetime) -> RegisterCounts:
    arrivals = []
    unreadable = 0
    for file_id in file_ids:
        try:
            arrivals.append(_arrival(inbox, file_id, now))
        except UnreadableError as exc:
            if _put_aside(inbox, file_id, str(exc)):
                unreadable += 1
                metrics.count(metrics.QUARANTINED, "unreadable")
    outcomes = index.register(arrivals)
    # from here on the rows stand: what a crash leaves undone is done at the next call
    settled: Counter[Outcome] = Counter()
    for arrival, outcome in zip(arrivals, outcomes, strict=True):
        if _SETTLE[outcome](inbox, index, arrival):
            settled[outcome] += 1
            metrics.count(*_COUNTED[outcome])
    return RegisterCounts(
        new=settled[Outcome.NEW],
        duplicates=settled[Outcome.DUPLICATE],
        conflicts=settled[Outcome.CONFLICT],
        unreadable=unreadable,
    )


def _arrival(inbox: Inbox, file_id: str, now: datetime) -> Arrival:
    try:
        path = inbox.path(file_id)
    except PermanentError:
        raise UnreadableError("the file vanished from the inbox") from None
    with warnings.catch_warnings():
        # pydicom's warnings quote values
        warnings.simplefilter("ignore")
        header, transfer_syntax_uid = _header(path)
        uids = {keyword: _uid(header, keyword) for keyword in _UIDS}
        patient_id = _patient_id(header)
        for keyword in ("SOPInstanceUID", "SOPClassUID"):
            if uids[keyword] != _meta_uid(header, f"MediaStorage{keyword}"):
                raise UnreadableError(f"{keyword} is not the one of the C-STORE command")
    sha256, size_bytes = _digest(path)
    instance = Instance(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=transfer_syntax_uid,
        file_id=file_id,
        path=inbox.kept_path(file_id),
        sha256=sha256,
        size_bytes=size_bytes,
        received_at=min(received_at(path), now),
    )
    return Arrival(instance=instance, patient_id=patient_id)


def _header(path: Path) -> tuple[FileDataset, str]:
    header = read_header(path, _KEYWORDS)
    try:
        transfer_syntax_uid = str(header.file_meta.TransferSyntaxUID)
    except BROKEN_BYTES as exc:
        raise UnreadableError(f"no Transfer Syntax UID ({type(exc).__name__})") from None
    if transfer_syntax_uid in _DEFLATED:
        raise UnreadableError("the transfer syntax is deflated, which the node does not take")
    return header, transfer_syntax_uid


def _uid(header: FileDataset, keyword: str) -> str:
    value = text(header, keyword)
    if not value:
        raise UnreadableError(f"{keyword} is missing")
    try:
        return checked_uid(value, keyword)
    except PermanentError:  # whose message shows the value, which may be anything
        raise UnreadableError(f"{keyword} is not a UID: 1 to 64 digits and dots") from None


def _meta_uid(header: FileDataset, keyword: str) -> str:
    try:
        return str(header.file_meta[keyword].value)
    except BROKEN_BYTES:
        return ""


def _patient_id(header: FileDataset) -> str:
    try:
        return text(header, "PatientID")
    except UnreadableError:
        return ""


def _digest(path: Path) -> tuple[str, int]:
    """Return SHA-256 and size in bytes of the data set alone."""
    offset = data_set_offset(path)
    with path.open("rb") as file:
        file.seek(offset)
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell() - offset


def _keep(inbox: Inbox, _: Index, arrival: Arrival) -> bool:
    inbox.keep(arrival.instance.file_id)
    return True


def _drop(inbox: Inbox, index: Index, arrival: Arrival) -> bool:
    instance = arrival.instance
    known = index.find(instance.sop_instance_uid)
    if known is not None and _has_its_length(known):
        inbox.remove_duplicate(instance.file_id)
        return True
    # never delete the only copy: the row's own file is gone, or lost bytes on the disk
    index.repoint(instance.sop_instance_uid, file_id=instance.file_id, path=instance.path)
    inbox.keep(instance.file_id)
    if known is not None and known.path.exists():
        reason = "came again; this file has not the length that was registered"
        _put_aside(inbox, known.file_id, f"{instance.sop_instance_uid} {reason}")
    return True


def _keep_apart(inbox: Inbox, index: Index, arrival: Arrival) -> bool:
    uid, file_id = arrival.instance.sop_instance_uid, arrival.instance.file_id
    sha256 = arrival.instance.sha256
    earlier = index.apart(sha256)
    if earlier is not None and inbox.is_quarantined(earlier):
        inbox.remove_duplicate(file_id)  # sent again: one copy in quarantine is enough
        return True
    known = index.find(uid)
    if known is None or _is_whole(known.path) or not _is_whole(inbox.path(file_id)):
        is_aside = _put_aside(inbox, file_id, f"{uid} is known with other bytes")
        if is_aside:
            index.put_apart(sha256, file_id)
        return is_aside
    # a damaged file came first: it must not keep the whole one out
    index.replace(arrival)
    inbox.keep(file_id)
    # where that fails the next start does it: no row stands for the file any more
    _put_aside(inbox, known.file_id, f"{uid} came again with complete pixels")
    return True


def _has_its_length(instance: Instance) -> bool:
    try:
        return data_set_bytes(instance.path) == instance.size_bytes
    except (OSError, UnreadableError):
        return False


def _is_whole(path: Path) -> bool:
    """Tell whether there is as much Pixel Data as the header promises; decodes nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(path, defer_size=_DEFER_BYTES, specific_tags=list(_PIXEL_KEYWORDS))
            pixels = cast(RawDataElement, header.get_item("PixelData", keep_deferred=True))
            if header.file_meta.TransferSyntaxUID.is_compressed:
                return pixels.length == 0xFFFFFFFF
            end = pixels.value_tell + pixels.length
            return 0 < _native_bytes(header) <= pixels.length and end <= path.stat().st_size
    except BROKEN_BYTES:
        return False


def _native_bytes(header: FileDataset) -> int:
    count = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    # PS3.3 C.7.6.3.1.2: YBR_FULL_422 stores two samples where the others store three
    is_halved = header.get("PhotometricInterpretation") == "YBR_FULL_422"
    samples = 2 if is_halved else int(header.get("SamplesPerPixel") or 1)
    return count * samples * int(header.BitsAllocated) // 8


_SETTLE: Final = {
    Outcome.NEW: _keep,
    Outcome.DUPLICATE: _drop,
    Outcome.CONFLICT: _keep_apart,
}

_COUNTED: Final = {
    Outcome.NEW: (metrics.KEPT, "new"),
    Outcome.DUPLICATE: (metrics.KEPT, "duplicate"),
    Outcome.CONFLICT: (metrics.QUARANTINED, "conflict"),
}


def _put_aside(inbox: Inbox, file_id: str, reason: str) -> bool:
    try:
        inbox.quarantine(file_id, reason)
    except (OSError, PermanentError) as exc:
        inbox.line.put_off(file_id, PUT_OFF_S)
        cause = type(exc).__name__
        log.get("register").error("not_put_aside", file_id=file_id, cause=cause, seconds=PUT_OFF_S)
        return False
    log.get("register").error("quarantined", file_id=file_id, reason=reason)
    return True
