from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicom_node.config import FetchFrom
from dicom_node.errors import DestinationDownError
from dicom_node.pull import Moved, move_study
from dicom_node.pull.move import STUDY_ROOT_MOVE
from tests.support.pacs import pacs
from tests.support.scp import shut_down
from tests.support.waiting import SC_IMAGE

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

Answer = tuple[int, Dataset | None]


def image(number: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SC_IMAGE, f"1.5.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@contextmanager
def archive(port: int, to_port: int, *images: Dataset, status: int = 0) -> Iterator[list[Dataset]]:
    """Run a PACS that sends these to the destination NODE; yield what it was asked."""
    asked: list[Dataset] = []

    def move(event: evt.Event) -> Iterator[tuple[str | None, int | None] | int | Answer]:
        asked.append(event.identifier)
        if event.move_destination != "NODE":
            yield None, None
            return
        yield "127.0.0.1", to_port
        yield len(images)
        if status:
            yield status, None
            return
        for ds in images:
            yield 0xFF00, ds

    ae = AE("PACS")
    ae.requested_contexts = [build_context(SC_IMAGE, ExplicitVRLittleEndian)]
    ae.add_supported_context(STUDY_ROOT_MOVE)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_MOVE, move)])
    try:
        yield asked
    finally:
        shut_down(ae)


def at(port: int) -> FetchFrom:
    return FetchFrom(ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5.0)


def fetched(port: int, to_ae_title: str = "NODE") -> Moved:
    return move_study("1.2", at(port), calling_ae_title="NODE", to_ae_title=to_ae_title)


def test_a_pacs_sends_a_whole_study_to_whom_it_is_told(free_port: Callable[[], int]) -> None:
    port, own = free_port(), free_port()
    with pacs(own, SC_IMAGE, ae_title="NODE") as node:
        with archive(port, own, image(1), image(2)) as asked:
            assert fetched(port) == Moved(completed=2, failed=0)
        assert [ds.SOPInstanceUID for ds in node.received] == ["1.5.1", "1.5.2"]
    [query] = asked
    assert (query.QueryRetrieveLevel, query.StudyInstanceUID) == ("STUDY", "1.2")
    assert "PatientID" not in query


def test_what_was_not_taken_is_counted(free_port: Callable[[], int]) -> None:
    port, own = free_port(), free_port()
    with pacs(own, SC_IMAGE, ae_title="NODE") as node, archive(port, own, image(1), image(2)):
        node.answer = lambda ds: 0xA700 if ds.SOPInstanceUID == "1.5.2" else 0
        assert fetched(port) == Moved(completed=1, failed=1)


def test_a_study_that_the_pacs_does_not_have_is_no_error(free_port: Callable[[], int]) -> None:
    port, own = free_port(), free_port()
    with pacs(own, SC_IMAGE, ae_title="NODE"), archive(port, own):
        assert fetched(port) == Moved(completed=0, failed=0)


def test_a_pacs_that_does_not_know_this_node_is_said_with_the_cure(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    with (
        archive(port, 1, image(1)),
        pytest.raises(DestinationDownError, match="move destination ELSE: enter this node's"),
    ):
        fetched(port, "ELSE")


def test_a_pacs_that_gives_up_is_said_with_its_status(free_port: Callable[[], int]) -> None:
    port, own = free_port(), free_port()
    with (
        pacs(own, SC_IMAGE, ae_title="NODE"),
        archive(port, own, image(1), status=0xC001),
        pytest.raises(DestinationDownError, match="0xC001"),
    ):
        fetched(port)


def test_nobody_there_is_said(free_port: Callable[[], int]) -> None:
    with pytest.raises(DestinationDownError, match=r"study\.fetch_from"):
        fetched(free_port())
