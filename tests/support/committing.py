"""A PACS on loopback that is asked to commit to what it stored."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_ACTION_RSP

from dicom_node.config import Destination
from tests.support.scp import shut_down

PUSH_MODEL, PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


@dataclass
class Archive:
    """What it got, and how it answers."""

    destination: Destination
    #: SOP Instance UIDs in the order of their coming, each as often as it came
    stored: list[str] = field(default_factory=list)
    #: the data sets of the N-ACTIONs
    asked: list[Dataset] = field(default_factory=list)
    #: status of the next N-ACTION
    answer: Callable[[], int] = lambda: 0x0000
    #: Failure Reason by SOP Instance UID
    failures: dict[str, int] = field(default_factory=dict)
    #: when it reports over the association of the question: "before", "after" or "" for never
    same_association: str = ""
    #: what was answered to its reports
    heard: list[int] = field(default_factory=list)

    def report_to(
        self, port: int, question: int = -1, *, ae_title: str = "PACS", called: str = "NODE"
    ) -> int:
        """Report over an association of its own; return the answer."""
        ae = AE(ae_title)
        ae.add_requested_context(PUSH_MODEL, ExplicitVRLittleEndian)
        role = build_role(PUSH_MODEL, scp_role=True)
        assoc = ae.associate("127.0.0.1", port, ae_title=called, ext_neg=[role])
        assert assoc.is_established
        status = self.report_over(assoc, self.asked[question])
        assoc.release()
        return status

    def report_over(self, assoc: Association, question: Dataset) -> int:
        """Report over an association; return the answer."""
        said = Dataset()
        said.TransactionUID = question.TransactionUID
        kept, failed = [], []
        for listed in question.ReferencedSOPSequence:
            item = Dataset()
            item.ReferencedSOPClassUID = listed.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = uid = listed.ReferencedSOPInstanceUID
            if uid in self.failures:
                item.FailureReason = self.failures[uid]
            (failed if uid in self.failures else kept).append(item)
        if kept:
            said.ReferencedSOPSequence = kept
        if failed:
            said.FailedSOPSequence = failed
        answer, _ = assoc.send_n_event_report(
            said, 2 if failed else 1, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        self.heard.append(int(answer.get("Status", -1)))
        return self.heard[-1]


@contextmanager
def archive(
    port: int, *sop_classes: str, commits: bool = True, wait_s: float = 3600.0
) -> Iterator[Archive]:
    """Run a PACS that takes these SOP classes, and questions after commitment if it `commits`."""
    ae = AE("PACS")
    for uid in (*sop_classes, "1.2.840.10008.1.1", *([PUSH_MODEL] if commits else [])):
        ae.add_supported_context(uid, ExplicitVRLittleEndian)
    state = Archive(
        destination=Destination(
            name="pacs",
            ae_title="PACS",
            host="127.0.0.1",
            port=port,
            timeout_s=5.0,
            commitment=True,
            commitment_wait_s=wait_s,
        )
    )
    threads: list[threading.Thread] = []

    def store(event: evt.Event) -> int:
        state.stored.append(str(event.dataset.SOPInstanceUID))
        return 0x0000

    def act(event: evt.Event) -> tuple[int, None]:
        state.asked.append(event.action_information)
        if state.same_association == "before":
            state.report_over(event.assoc, state.asked[-1])
        return state.answer(), None

    def answered(event: evt.Event) -> None:
        if isinstance(event.message, N_ACTION_RSP) and state.same_association == "after":
            over = (event.assoc, state.asked[-1])
            threads.append(threading.Thread(target=state.report_over, args=over))
            threads[-1].start()

    handlers = [
        (evt.EVT_C_STORE, store),
        (evt.EVT_N_ACTION, act),
        (evt.EVT_DIMSE_SENT, answered),
    ]
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield state
    finally:
        for thread in threads:
            thread.join()
        shut_down(ae)
