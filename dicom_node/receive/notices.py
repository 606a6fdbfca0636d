"""What peers say about instances: storage commitment, performed procedure steps, availability.

A handler reads the few attributes that it needs, writes one notice durably and only then answers
Success. A receiver keeps no state: what a notice means for a study is decided later, in the worker.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_ACTION, N_CREATE, N_SET
from pynetdicom.transport import AddressInformation

from dicom_node import log
from dicom_node.config import NodeSettings
from dicom_node.errors import (
    InboxFullError,
    PermanentError,
    RefusedError,
    TemporaryError,
    UnreadableError,
)
from dicom_node.header import BROKEN_BYTES, text
from dicom_node.notices import Notices, new_file_id, report_address
from dicom_node.receive.contexts import AVAILABILITY, COMMITMENT, PROCEDURE_STEP
from dicom_node.receive.statuses import Status
from dicom_node.records import Notice, NoticeKind, Reference, checked_uid

#: Storage Commitment Push Model SOP Instance (PS3.4 J.3.5): the only one there is.
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_REQUEST_STORAGE_COMMITMENT: Final = 1
#: PS3.4 F.7.2.1 and F.7.2.2: with what a step begins, and what it may become
_BEGINS: Final = frozenset({"IN PROGRESS"})
_BECOMES: Final = frozenset({"", "IN PROGRESS", "COMPLETED", "DISCONTINUED"})

NO_ROOM: Final = Status(
    code=0x0213,
    comment="Resource limitation: no room in the inbox",
    clause="PS3.7 10.1.4.1.10, 10.1.5.1.6",
)
FAILED: Final = Status(
    code=0x0110,
    comment="Processing failure: not readable or not kept",
    clause="PS3.7 10.1.4.1.10, 10.1.5.1.6",
)
NO_SUCH_INSTANCE: Final = Status(
    code=0x0112,
    comment="Not the Storage Commitment Push Model SOP Instance",
    clause="PS3.4 J.3.5, PS3.7 10.1.4.1.10",
)
NO_SUCH_ACTION: Final = Status(
    code=0x0123, comment="The only action type is 1", clause="PS3.4 J.3.2, PS3.7 10.1.4.1.10"
)
INVALID_ARGUMENT: Final = Status(
    code=0x0115,
    comment="Transaction UID or Referenced SOP Sequence is not usable",
    clause="PS3.4 J.3.2.1.1, PS3.7 10.1.4.1.10",
)
NOT_AUTHORIZED: Final = Status(
    code=0x0124,
    comment="No port to report to is configured for this AE title",
    clause="PS3.4 J.3.3, PS3.7 10.1.4.1.10",
)
NO_INSTANCE_UID: Final = Status(
    code=0x0117, comment="SOP Instance UID is missing or no UID", clause="PS3.7 10.1.5.1.6"
)
MISSING_ATTRIBUTE: Final = Status(
    code=0x0120, comment="An attribute of type 1 is missing", clause="PS3.7 10.1.5.1.6"
)
INVALID_VALUE: Final = Status(
    code=0x0106,
    comment="An attribute has a value that it may not have",
    clause="PS3.7 10.1.5.1.6, 10.1.3.1.9",
)
NOTICE_STATUSES: Final = (
    NO_ROOM,
    FAILED,
    NO_SUCH_INSTANCE,
    NO_SUCH_ACTION,
    INVALID_ARGUMENT,
    NOT_AUTHORIZED,
    NO_INSTANCE_UID,
    MISSING_ATTRIBUTE,
    INVALID_VALUE,
)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What is taken from a message."""

    kind: NoticeKind
    uid: str
    status: str = ""
    study_instance_uids: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()


def notice_handlers(settings: NodeSettings, notices: Notices) -> list[evt.EventHandlerType]:
    """Return the handlers of N-ACTION, N-CREATE and N-SET."""
    events = (evt.EVT_N_ACTION, evt.EVT_N_CREATE, evt.EVT_N_SET)
    return [(event, _on_message, [settings, notices]) for event in events]


def _on_message(
    event: evt.Event, settings: NodeSettings, notices: Notices
) -> tuple[Dataset, Dataset | None]:
    ae_title, host = event.assoc.requestor.ae_title, _host(event)
    kind = (event.event.name, str(event.context.abstract_syntax))
    try:
        said = _READERS[kind](event)
        if said.kind is NoticeKind.COMMITMENT:
            _check_report(settings, ae_title, host)
        notice = Notice(
            file_id=new_file_id(),
            calling_ae_title=ae_title,
            host=host,
            received_at=datetime.now(UTC),
            **vars(said),
        )
        notices.write(notice)
    except (RefusedError, TemporaryError, UnreadableError, *BROKEN_BYTES) as exc:
        return _refusal(exc, ae_title, host), None
    instances = len(notice.references)
    log.get("receive").info(
        "noticed", kind=notice.kind.value, ae_title=ae_title, instances=instances
    )
    return _answer(0x0000), None


def _read_commitment(event: evt.Event) -> _Said:
    request = cast(N_ACTION, event.request)
    if request.RequestedSOPInstanceUID != COMMITMENT_INSTANCE:
        raise _refused(NO_SUCH_INSTANCE)
    if request.ActionTypeID != _REQUEST_STORAGE_COMMITMENT:
        raise _refused(NO_SUCH_ACTION)
    keywords = ("TransactionUID", "ReferencedSOPSequence")
    data = _decoded(event, request.ActionInformation, keywords)
    references = _unique(_references(_items(data, "ReferencedSOPSequence"), INVALID_ARGUMENT))
    if not references:
        raise _refused(INVALID_ARGUMENT)
    uid = _uid(data, "TransactionUID", INVALID_ARGUMENT)
    return _Said(kind=NoticeKind.COMMITMENT, uid=uid, references=references)


def _read_new_step(event: evt.Event) -> _Said:
    request = cast(N_CREATE, event.request)
    said = _read_step(event, request.AffectedSOPInstanceUID, request.AttributeList)
    if not said.status or not said.study_instance_uids:
        raise _refused(MISSING_ATTRIBUTE)
    return _with_status(said, _BEGINS)


def _read_changed_step(event: evt.Event) -> _Said:
    request = cast(N_SET, event.request)
    said = _read_step(event, request.RequestedSOPInstanceUID, request.ModificationList)
    return _with_status(said, _BECOMES)


def _read_step(event: evt.Event, uid: UID | None, data_set: BytesIO | None) -> _Said:
    keywords = (
        "PerformedProcedureStepStatus",
        "ScheduledStepAttributesSequence",
        "PerformedSeriesSequence",
    )
    data = _decoded(event, data_set, keywords)
    scheduled = _items(data, "ScheduledStepAttributesSequence")
    named = [
        item
        for series in _items(data, "PerformedSeriesSequence")
        for keyword in (
            "ReferencedImageSequence",
            "ReferencedNonImageCompositeSOPInstanceSequence",
        )
        for item in _items(series, keyword)
    ]
    return _Said(
        kind=NoticeKind.PROCEDURE_STEP,
        uid=_instance_uid(uid),
        status=text(data, "PerformedProcedureStepStatus"),
        study_instance_uids=tuple(_uid(i, "StudyInstanceUID", INVALID_VALUE) for i in scheduled),
        references=_unique(_references(named, INVALID_VALUE)),
    )


def _with_status(said: _Said, allowed: frozenset[str]) -> _Said:
    if said.status not in allowed:
        raise _refused(INVALID_VALUE)
    return said


def _read_availability(event: evt.Event) -> _Said:
    request = cast(N_CREATE, event.request)
    keywords = ("StudyInstanceUID", "ReferencedSeriesSequence")
    data = _decoded(event, request.AttributeList, keywords)
    named = [
        item
        for series in _items(data, "ReferencedSeriesSequence")
        for item in _items(series, "ReferencedSOPSequence")
        if text(item, "InstanceAvailability") != "UNAVAILABLE"  # PS3.3 C.4.23
    ]
    if "StudyInstanceUID" not in data:
        raise _refused(MISSING_ATTRIBUTE)
    return _Said(
        kind=NoticeKind.AVAILABILITY,
        uid=_instance_uid(request.AffectedSOPInstanceUID),
        study_instance_uids=(_uid(data, "StudyInstanceUID", INVALID_VALUE),),
        references=_unique(_references(named, INVALID_VALUE)),
    )


#: (event, abstract syntax): how the message is read
_READERS: Final[Mapping[tuple[str, str], Callable[[evt.Event], _Said]]] = {
    ("EVT_N_ACTION", COMMITMENT): _read_commitment,
    ("EVT_N_CREATE", PROCEDURE_STEP): _read_new_step,
    ("EVT_N_SET", PROCEDURE_STEP): _read_changed_step,
    ("EVT_N_CREATE", AVAILABILITY): _read_availability,
}


def _decoded(event: evt.Event, data_set: BytesIO | None, keywords: Iterable[str]) -> Dataset:
    """Read the named attributes of a message; the patient's are passed over unparsed."""
    if data_set is None:
        return Dataset()
    data_set.seek(0)
    syntax = UID(event.context.transfer_syntax)
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in keywords]
    return read_dataset(
        data_set, syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=tags
    )


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    return list(data.get(keyword) or ())


def _references(items: Iterable[Dataset], status: Status) -> Iterator[Reference]:
    for item in items:
        yield Reference(
            sop_class_uid=_uid(item, "ReferencedSOPClassUID", status),
            sop_instance_uid=_uid(item, "ReferencedSOPInstanceUID", status),
        )


def _unique(references: Iterable[Reference]) -> tuple[Reference, ...]:
    return tuple({each.sop_instance_uid: each for each in references}.values())


def _uid(data: Dataset, keyword: str, status: Status) -> str:
    try:
        return checked_uid(text(data, keyword), keyword)
    except PermanentError:
        raise _refused(status) from None


def _instance_uid(uid: UID | None) -> str:
    try:
        return checked_uid(str(uid or ""), "SOP Instance UID")
    except PermanentError:
        raise _refused(NO_INSTANCE_UID) from None


def _check_report(settings: NodeSettings, ae_title: str, host: str) -> None:
    if report_address(settings.callers, ae_title, host) is None:
        raise _refused(NOT_AUTHORIZED)


def _refusal(exc: BaseException, ae_title: str, host: str) -> Dataset:
    code = exc.status if isinstance(exc, RefusedError) else FAILED.code
    code = NO_ROOM.code if isinstance(exc, InboxFullError) else code
    status = next(each for each in NOTICE_STATUSES if each.code == code)
    log.get("receive").warning(
        "notice_refused",
        ae_title=ae_title,
        host=host,
        status=f"0x{status.code:04X}",
        reason=_CURES.get(status.code, status.comment),
    )
    return _answer(status.code, status.comment)


_CURES: Final = {
    NOT_AUTHORIZED.code: "storage commitment needs to know where reports go: "
    "give this caller its port in node.callers"
}


def _answer(code: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = code
    if comment:
        answer.ErrorComment = comment
    return answer


def _refused(status: Status) -> RefusedError:
    return RefusedError(status.code, status.comment)


def _host(event: evt.Event) -> str:
    requestor: Any = event.assoc.requestor
    return cast(AddressInformation, requestor.address_info).address
