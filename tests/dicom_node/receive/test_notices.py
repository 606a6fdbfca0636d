from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode
from structlog.testing import capture_logs

from dicom_node.config import Caller
from dicom_node.inbox import Inbox
from dicom_node.notices import open_notices
from dicom_node.receive.contexts import AVAILABILITY, COMMITMENT, PROCEDURE_STEP
from dicom_node.receive.notice_statuses import NOTICE_STATUSES
from dicom_node.receive.notices import COMMITMENT_INSTANCE
from dicom_node.records import Notice, NoticeKind, Reference
from tests.support.receiving import US_IMAGE, Receiver, receiver, settings_for

pytestmark = pytest.mark.dimse

CALLERS = (
    Caller(ae_title="PEER", host="127.0.0.1", port=4242),
    Caller(ae_title="MUTE", host="127.0.0.1"),
)


@pytest.fixture
def running(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Receiver]:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    with receiver(settings_for(free_port(), callers=CALLERS), inbox) as running:
        yield running


@pytest.fixture(params=[ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.name)
def assoc(running: Receiver, request: pytest.FixtureRequest) -> Iterator[Association]:
    assoc = associate(running, "PEER", request.param)
    yield assoc
    assoc.release()


def associate(
    running: Receiver, ae_title: str = "PEER", syntax: str = ExplicitVRLittleEndian
) -> Association:
    ae = AE(ae_title)
    for uid in (COMMITMENT, PROCEDURE_STEP, AVAILABILITY):
        ae.add_requested_context(uid, syntax)
    assoc = ae.associate("127.0.0.1", running.port)
    assert assoc.is_established
    return assoc


def noticed(running: Receiver) -> list[Notice]:
    return list(open_notices(running.inbox).waiting(99))


def data(**attributes: Any) -> Dataset:
    """Return a data set; an attribute given as None is left out."""
    made = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def item(number: int, **more: str) -> Dataset:
    return data(ReferencedSOPClassUID=US_IMAGE, ReferencedSOPInstanceUID=f"1.2.3.{number}", **more)


def reference(number: int) -> Reference:
    return Reference(sop_class_uid=US_IMAGE, sop_instance_uid=f"1.2.3.{number}")


def commitment(**changes: Any) -> Dataset:
    values = {"TransactionUID": "1.2.9", "ReferencedSOPSequence": [item(1), item(2), item(1)]}
    return data(**values | changes)


def request(
    assoc: Association, asked: Dataset, action: int = 1, instance: str = COMMITMENT_INSTANCE
) -> int:
    return int(assoc.send_n_action(asked, action, COMMITMENT, instance)[0].Status)


def test_a_commitment_request_is_acknowledged_and_noticed(
    running: Receiver, assoc: Association
) -> None:
    assert request(assoc, commitment()) == 0x0000
    [notice] = noticed(running)
    assert (notice.kind, notice.calling_ae_title) == (NoticeKind.COMMITMENT, "PEER")
    assert (notice.uid, notice.host) == ("1.2.9", "127.0.0.1")
    assert notice.references == (reference(1), reference(2))


def test_a_commitment_of_ten_thousand_instances_is_taken(running: Receiver) -> None:
    long = [item(number + 10**40) for number in range(10_000)]
    asked = commitment(ReferencedSOPSequence=long)
    assoc = associate(running)  # last: it is ended when nothing comes for a while
    assert request(assoc, asked) == 0x0000
    assoc.release()
    assert len(noticed(running)[0].references) == 10_000


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("changes", "action", "status"),
    [
        ({}, 2, 0x0123),
        ({"TransactionUID": None}, 1, 0x0115),
        ({"TransactionUID": "../evil"}, 1, 0x0115),
        ({"ReferencedSOPSequence": None}, 1, 0x0115),
        ({"ReferencedSOPSequence": []}, 1, 0x0115),
        ({"ReferencedSOPSequence": [data(ReferencedSOPClassUID=US_IMAGE)]}, 1, 0x0115),
        ({"ReferencedSOPSequence": [item(1), data(ReferencedSOPInstanceUID="1.2")]}, 1, 0x0115),
    ],
)
def test_a_commitment_request_that_is_wrong_is_refused(
    running: Receiver, changes: dict[str, Any], action: int, status: int
) -> None:
    assoc = associate(running)
    assert request(assoc, commitment(**changes), action) == status
    assoc.release()
    assert noticed(running) == []


def test_another_instance_than_the_well_known_one_does_not_exist(running: Receiver) -> None:
    assoc = associate(running)
    assert request(assoc, commitment(), instance="1.2.3") == 0x0112
    assoc.release()


def test_who_cannot_get_a_report_is_refused_with_the_cure_in_the_log(running: Receiver) -> None:
    assoc = associate(running, "MUTE")
    with capture_logs() as logs:
        assert request(assoc, commitment()) == 0x0124
    assoc.release()
    assert any("node.callers" in line.get("reason", "") for line in logs)
    assert noticed(running) == []


def test_without_room_a_notice_is_refused_and_the_peer_may_try_again(
    running: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assoc = associate(running)
    monkeypatch.setattr(running.inbox, "_min_free_bytes", 1 << 62)
    assert request(assoc, commitment()) == 0x0213
    monkeypatch.undo()
    assert request(assoc, commitment()) == 0x0000
    assoc.release()


def step(status: str | None, *, has_study: bool = True) -> Dataset:
    scheduled = [data(StudyInstanceUID="1.2", AccessionNumber="A-1")] if has_study else []
    performed = data(
        SeriesInstanceUID="1.2.3",
        ReferencedImageSequence=[item(1), item(2)],
        ReferencedNonImageCompositeSOPInstanceSequence=[item(3)],
    )
    return data(
        PatientName="Secret^Name",
        PatientID="SECRET-1",
        PerformedProcedureStepStatus=status,
        ScheduledStepAttributesSequence=scheduled,
        PerformedSeriesSequence=[performed],
    )


def test_a_performed_procedure_step_is_noticed_without_its_patient(
    running: Receiver, assoc: Association
) -> None:
    status, _ = assoc.send_n_create(step("IN PROGRESS"), PROCEDURE_STEP, "1.2.77")
    assert status.Status == 0x0000
    status, _ = assoc.send_n_set(step("COMPLETED", has_study=False), PROCEDURE_STEP, "1.2.77")
    assert status.Status == 0x0000
    begun, ended = noticed(running)
    assert (begun.uid, begun.status, ended.uid, ended.status) == (
        "1.2.77",
        "IN PROGRESS",
        "1.2.77",
        "COMPLETED",
    )
    assert begun.study_instance_uids == ("1.2",)
    assert ended.references == (reference(1), reference(2), reference(3))
    files = (running.inbox.folder.parent / "notices" / "new").iterdir()
    assert all("ecret" not in path.read_text().lower() for path in files)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (step(None), 0x0120),
        (step("COMPLETED"), 0x0106),
        (step("IN PROGRESS", has_study=False), 0x0120),
    ],
)
def test_a_step_that_begins_wrongly_is_refused(
    running: Receiver, given: Dataset, status: int
) -> None:
    assoc = associate(running)
    assert assoc.send_n_create(given, PROCEDURE_STEP, "1.2.77")[0].Status == status
    assoc.release()
    assert noticed(running) == []


def test_a_step_cannot_become_what_the_standard_does_not_know(running: Receiver) -> None:
    assoc = associate(running)
    assert assoc.send_n_set(step("PAUSED"), PROCEDURE_STEP, "1.2.77")[0].Status == 0x0106
    assoc.release()


def available(**changes: Any) -> Dataset:
    listed = [
        item(1, InstanceAvailability="ONLINE"),
        item(2, InstanceAvailability="NEARLINE"),
        item(3, InstanceAvailability="UNAVAILABLE"),
    ]
    series = data(SeriesInstanceUID="1.2.3", ReferencedSOPSequence=listed)
    return data(**{"StudyInstanceUID": "1.2", "ReferencedSeriesSequence": [series]} | changes)


def test_what_is_available_is_noticed_and_what_is_not_is_left_out(
    running: Receiver, assoc: Association
) -> None:
    status, _ = assoc.send_n_create(available(), AVAILABILITY, "1.2.88")
    assert status.Status == 0x0000
    [notice] = noticed(running)
    assert (notice.kind, notice.study_instance_uids) == (NoticeKind.AVAILABILITY, ("1.2",))
    assert notice.references == (reference(1), reference(2))


def test_availability_without_a_study_is_refused(running: Receiver) -> None:
    assoc = associate(running)
    given = available(StudyInstanceUID=None)
    assert assoc.send_n_create(given, AVAILABILITY, "1.2.88")[0].Status == 0x0120
    assoc.release()


def reported(**changes: Any) -> Dataset:
    values = {
        "TransactionUID": "1.2.9",
        "ReferencedSOPSequence": [item(1), item(2)],
        "FailedSOPSequence": [item(3, FailureReason=0x0112), item(4)],
    }
    return data(**values | changes)


def report(assoc: Association, said: Dataset, event: int = 2, instance: str = "") -> int:
    where = instance or COMMITMENT_INSTANCE
    return int(assoc.send_n_event_report(said, event, COMMITMENT, where)[0].Status)


@pytest.mark.parametrize("roles", [(False, True), (True, True), None], ids=str)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_who_commits_may_report_in_the_reversed_role(
    running: Receiver, roles: tuple[bool, bool] | None, syntax: str
) -> None:
    ae = AE("PEER")
    ae.add_requested_context(COMMITMENT, syntax)
    proposed = [] if roles is None else [build_role(COMMITMENT, *roles)]
    assoc = ae.associate("127.0.0.1", running.port, ext_neg=proposed)
    [context] = assoc.accepted_contexts
    assert (context.as_scu, context.as_scp) == (roles or (True, False))
    assert report(assoc, reported()) == 0x0000
    assoc.release()
    [notice] = noticed(running)
    assert (notice.kind, notice.uid, notice.calling_ae_title) == (
        NoticeKind.REPORT,
        "1.2.9",
        "PEER",
    )
    assert notice.references == (reference(1), reference(2))
    assert notice.failures == ((reference(3), 0x0112), (reference(4), 0x0110))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("changes", "event", "instance", "status"),
    [
        ({}, 3, "", 0x0113),
        ({}, 1, "1.2.3", 0x0112),
        ({"TransactionUID": None}, 1, "", 0x0115),
        ({"TransactionUID": "../evil"}, 1, "", 0x0115),
        ({"ReferencedSOPSequence": None, "FailedSOPSequence": None}, 1, "", 0x0115),
        ({"FailedSOPSequence": [data(FailureReason=0x0112)]}, 2, "", 0x0115),
    ],
)
def test_a_report_that_is_wrong_is_refused(
    running: Receiver, changes: dict[str, Any], event: int, instance: str, status: int
) -> None:
    assoc = associate(running)
    assert report(assoc, reported(**changes), event, instance) == status
    assoc.release()
    assert noticed(running) == []


def test_reports_that_come_in_one_go_are_kept_in_their_order(running: Receiver) -> None:
    assoc = associate(running)
    context = assoc._get_valid_context(COMMITMENT, "", None)
    assert context.context_id is not None
    # the reactor would take an answer for a request
    assoc._reactor_checkpoint.clear()
    for number in range(20):
        message = N_EVENT_REPORT()
        message.MessageID, message.EventTypeID = number + 1, 2
        message.AffectedSOPClassUID = COMMITMENT
        message.AffectedSOPInstanceUID = COMMITMENT_INSTANCE
        information = encode(reported(TransactionUID=f"1.2.{number}"), False, True)
        assert information is not None
        message.EventInformation = BytesIO(information)
        assoc.dimse.send_msg(message, context.context_id)
    answers = [assoc.dimse.get_msg(block=True)[1] for _ in range(20)]
    assoc._reactor_checkpoint.set()
    assoc.release()
    assert [answer.MessageIDBeingRespondedTo for answer in answers] == list(range(1, 21))
    assert {int(answer.Status) for answer in answers} == {0x0000}
    assert [notice.uid for notice in noticed(running)] == [f"1.2.{number}" for number in range(20)]


def test_a_report_that_finds_no_room_may_be_made_again(
    running: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assoc = associate(running)
    monkeypatch.setattr(running.inbox, "_min_free_bytes", 1 << 62)
    assert report(assoc, reported()) == 0x0213
    monkeypatch.undo()
    assert report(assoc, reported()) == 0x0000
    assoc.release()


def test_a_sequence_nested_ten_thousand_deep_costs_itself_only(running: Receiver) -> None:
    # (0008,1199) SQ and its item, both of undefined length and never ended
    begin = b"\x08\x00\x99\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assoc = associate(running)
    assert send_raw(assoc, begin * 10_000) == 0x0110
    assert request(assoc, commitment()) == 0x0000
    assoc.release()


def send_raw(assoc: Association, content: bytes) -> int:
    """Send an N-ACTION whose data set is what pydicom would never write."""
    message = N_ACTION()
    message.MessageID = 7
    message.RequestedSOPClassUID = COMMITMENT
    message.RequestedSOPInstanceUID = COMMITMENT_INSTANCE
    message.ActionTypeID = 1
    message.ActionInformation = BytesIO(content)
    context = assoc._get_valid_context(COMMITMENT, "", "scu")
    assert context.context_id is not None
    # the reactor would take the answer for a request
    assoc._reactor_checkpoint.clear()
    assoc.dimse.send_msg(message, context.context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return int(answer.Status)


def test_every_refusal_has_its_own_code_and_fits_into_error_comment() -> None:
    codes = [status.code for status in NOTICE_STATUSES]
    assert len(set(codes)) == len(codes)
    for status in NOTICE_STATUSES:
        assert 0 < len(status.comment) <= 64
        assert status.clause.startswith("PS3.")
