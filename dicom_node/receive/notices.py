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
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_ACTION, N_CREATE, N_EVENT_REPORT, N_SET
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
from dicom_node.inbox import new_file_id
from dicom_node.notices import Notices, report_address
from dicom_node.receive.attributes import Attributes, Shape, parse
from dicom_node.receive.contexts import AVAILABILITY, COMMITMENT, PROCEDURE_STEP
from dicom_node.receive.notice_statuses import (
    FAILED,
    INVALID_ARGUMENT,
    INVALID_VALUE,
    MISSING_ATTRIBUTE,
    NO_INSTANCE_UID,
    NO_ROOM,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT,
    NO_SUCH_INSTANCE,
    NOT_AUTHORIZED,
    NOTICE_STATUSES,
)
from dicom_node.receive.statuses import Status
from dicom_node.records import Notice, NoticeKind, Reference, checked_uid

#: Storage Commitment Push Model SOP Instance (PS3.4 J.3.5): the only one there is.
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_REQUEST_STORAGE_COMMITMENT: Final = 1
#: Event Type ID (PS3.4 Table J.3-2): all is kept, or failures exist
_RESULTS: Final = frozenset({1, 2})
#: PS3.4 F.7.2.1 and F.7.2.2: with what a step begins, and what it may become
_BEGINS: Final = frozenset({"IN PROGRESS"})
_BECOMES: Final = frozenset({"", "IN PROGRESS", "COMPLETED", "DISCONTINUED"})


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What is taken from a message."""

    kind: NoticeKind
    uid: str
    status: str = ""
    study_instance_uids: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    failures: tuple[tuple[Reference, int], ...] = ()


def notice_handlers(settings: NodeSettings, notices: Notices) -> list[evt.EventHandlerType]:
    """Return the handlers of N-ACTION, N-CREATE, N-SET and N-EVENT-REPORT."""
    events = (evt.EVT_N_ACTION, evt.EVT_N_CREATE, evt.EVT_N_SET, evt.EVT_N_EVENT_REPORT)
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
    except (RefusedError, TemporaryError, UnreadableError) as exc:
        return _refusal(exc, ae_title, host), None
    instances = len(notice.references) + len(notice.failures)
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
    data = _decoded(event, request.ActionInformation, _COMMITMENT_SHAPE)
    references = _unique(_references(data.items("ReferencedSOPSequence"), INVALID_ARGUMENT))
    if not references:
        raise _refused(INVALID_ARGUMENT)
    uid = _uid(data, "TransactionUID", INVALID_ARGUMENT)
    return _Said(kind=NoticeKind.COMMITMENT, uid=uid, references=references)


def _read_report(event: evt.Event) -> _Said:
    request = cast(N_EVENT_REPORT, event.request)
    if request.AffectedSOPInstanceUID != COMMITMENT_INSTANCE:
        raise _refused(NO_SUCH_INSTANCE)
    if request.EventTypeID not in _RESULTS:
        raise _refused(NO_SUCH_EVENT)
    data = _decoded(event, request.EventInformation, _REPORT_SHAPE)
    kept = _unique(_references(data.items("ReferencedSOPSequence"), INVALID_ARGUMENT))
    failed = data.items("FailedSOPSequence")
    reasons = (item.number("FailureReason") or FAILED.code for item in failed)
    failures = tuple(zip(_references(failed, INVALID_ARGUMENT), reasons, strict=True))
    if not kept and not failures:
        raise _refused(INVALID_ARGUMENT)
    uid = _uid(data, "TransactionUID", INVALID_ARGUMENT)
    return _Said(kind=NoticeKind.REPORT, uid=uid, references=kept, failures=failures)


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
    data = _decoded(event, data_set, _STEP_SHAPE)
    scheduled = data.items("ScheduledStepAttributesSequence")
    named = [
        item
        for series in data.items("PerformedSeriesSequence")
        for keyword in _SERIES_SHAPE
        for item in series.items(keyword)
    ]
    return _Said(
        kind=NoticeKind.PROCEDURE_STEP,
        uid=_instance_uid(uid),
        status=data.text("PerformedProcedureStepStatus"),
        study_instance_uids=tuple(_uid(i, "StudyInstanceUID", INVALID_VALUE) for i in scheduled),
        references=_unique(_references(named, INVALID_VALUE)),
    )


def _with_status(said: _Said, allowed: frozenset[str]) -> _Said:
    if said.status not in allowed:
        raise _refused(INVALID_VALUE)
    return said


def _read_availability(event: evt.Event) -> _Said:
    request = cast(N_CREATE, event.request)
    data = _decoded(event, request.AttributeList, _AVAILABILITY_SHAPE)
    named = [
        item
        for series in data.items("ReferencedSeriesSequence")
        for item in series.items("ReferencedSOPSequence")
        if item.text("InstanceAvailability") != "UNAVAILABLE"  # PS3.3 C.4.23
    ]
    if not data.text("StudyInstanceUID"):
        raise _refused(MISSING_ATTRIBUTE)
    return _Said(
        kind=NoticeKind.AVAILABILITY,
        uid=_instance_uid(request.AffectedSOPInstanceUID),
        study_instance_uids=(_uid(data, "StudyInstanceUID", INVALID_VALUE),),
        references=_unique(_references(named, INVALID_VALUE)),
    )


_REFERENCE_SHAPE: Final = {"ReferencedSOPClassUID": None, "ReferencedSOPInstanceUID": None}
_COMMITMENT_SHAPE: Final = {"TransactionUID": None, "ReferencedSOPSequence": _REFERENCE_SHAPE}
_REPORT_SHAPE: Final = {
    **_COMMITMENT_SHAPE,
    "FailedSOPSequence": _REFERENCE_SHAPE | {"FailureReason": None},
}
_SERIES_SHAPE: Final = {
    "ReferencedImageSequence": _REFERENCE_SHAPE,
    "ReferencedNonImageCompositeSOPInstanceSequence": _REFERENCE_SHAPE,
}
_STEP_SHAPE: Final = {
    "PerformedProcedureStepStatus": None,
    "ScheduledStepAttributesSequence": {"StudyInstanceUID": None},
    "PerformedSeriesSequence": _SERIES_SHAPE,
}
_AVAILABILITY_SHAPE: Final = {
    "StudyInstanceUID": None,
    "ReferencedSeriesSequence": {
        "ReferencedSOPSequence": _REFERENCE_SHAPE | {"InstanceAvailability": None}
    },
}

#: (event, abstract syntax): how the message is read
_READERS: Final[Mapping[tuple[str, str], Callable[[evt.Event], _Said]]] = {
    ("EVT_N_ACTION", COMMITMENT): _read_commitment,
    ("EVT_N_EVENT_REPORT", COMMITMENT): _read_report,
    ("EVT_N_CREATE", PROCEDURE_STEP): _read_new_step,
    ("EVT_N_SET", PROCEDURE_STEP): _read_changed_step,
    ("EVT_N_CREATE", AVAILABILITY): _read_availability,
}


def _decoded(event: evt.Event, data_set: BytesIO | None, shape: Shape) -> Attributes:
    """Read the named attributes of a message; the patient's are passed over."""
    if data_set is None:
        return Attributes()
    syntax = UID(event.context.transfer_syntax)
    return parse(data_set.getvalue(), shape, is_implicit=syntax.is_implicit_VR)


def _references(items: Iterable[Attributes], status: Status) -> Iterator[Reference]:
    for item in items:
        yield Reference(
            sop_class_uid=_uid(item, "ReferencedSOPClassUID", status),
            sop_instance_uid=_uid(item, "ReferencedSOPInstanceUID", status),
        )


def _unique(references: Iterable[Reference]) -> tuple[Reference, ...]:
    return tuple({each.sop_instance_uid: each for each in references}.values())


def _uid(data: Attributes, keyword: str, status: Status) -> str:
    try:
        return checked_uid(data.text(keyword), keyword)
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
