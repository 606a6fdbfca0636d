from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, evt

from dicom_node.errors import DestinationDownError
from dicom_node.pull.asked import Incoming
from dicom_node.pull.find import image_query
from dicom_node.pull.get import STUDY_ROOT_GET, get
from dicom_node.sop_classes import RESULTS, ULTRASOUND_IMAGES
from tests.support.archived import archive_at
from tests.support.scp import shut_down
from tests.support.waiting import SC_IMAGE

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def image(number: int, syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SC_IMAGE, f"1.5.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


class Giving:
    """A C-GET SCP, what it was asked, and what it was answered."""

    def __init__(self, *images: Dataset) -> None:
        self.images, self.status = images, 0x0000
        self.asked: list[Dataset] = []
        self.proposed: list[tuple[str, int]] = []

    def give(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None] | int]:
        self.asked.append(event.identifier)
        contexts = event.assoc.requestor.requested_contexts
        self.proposed = [(str(one.abstract_syntax), len(one.transfer_syntax)) for one in contexts]
        yield len(self.images)
        if self.status:
            yield self.status, None
            return
        for ds in self.images:
            yield 0xFF00, ds


@contextmanager
def giving(port: int, *images: Dataset) -> Iterator[Giving]:
    state = Giving(*images)
    ae = AE("PACS")
    ae.add_supported_context(STUDY_ROOT_GET)
    for uid in (SC_IMAGE, *ULTRASOUND_IMAGES):
        syntaxes = [ExplicitVRLittleEndian, JPEGBaseline8Bit]
        ae.add_supported_context(uid, syntaxes, scu_role=True, scp_role=True)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_GET, state.give)])
    try:
        yield state
    finally:
        shut_down(ae)


def got(port: int, *classes: str, refused: str = "") -> list[Incoming]:
    kept: list[Incoming] = []

    def keep(incoming: Incoming) -> int:
        kept.append(incoming)
        return 0xA700 if incoming.sop_instance_uid == refused else 0x0000

    at = archive_at(port)
    get(image_query("1.2"), at, classes=classes, calling_ae_title="NODE", keep=keep)
    return kept


def test_what_is_given_comes_with_its_bytes_in_its_own_transfer_syntax(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    images = [image(1), image(2, JPEGBaseline8Bit)]
    images[1].PixelData = b"\xfe\xff\0\xe0\0\0\0\0"
    images[1]["PixelData"].is_undefined_length = True
    images[1]["PixelData"].VR = "OB"
    with giving(port, *images) as archive:
        first, second = got(port, SC_IMAGE)
    assert (first.sop_class_uid, first.sop_instance_uid) == (SC_IMAGE, "1.5.1")
    assert first.transfer_syntax_uid == ExplicitVRLittleEndian
    assert second.transfer_syntax_uid == JPEGBaseline8Bit
    content = b"".join(bytes(part) for part in first.fragments)
    assert dcmread(BytesIO(content), force=True).StudyInstanceUID == "1.2"
    [query] = archive.asked
    assert (query.QueryRetrieveLevel, query.StudyInstanceUID) == ("STUDY", "1.2")
    assert {count for uid, count in archive.proposed if uid != STUDY_ROOT_GET} == {1}


@pytest.mark.parametrize("classes", [(), ("",), tuple(f"1.2.3.{n}" for n in range(300))])
def test_no_more_is_proposed_than_fits(
    free_port: Callable[[], int], classes: tuple[str, ...]
) -> None:
    port = free_port()
    with giving(port) as archive:
        assert got(port, *classes) == []
    assert len(archive.proposed) <= 128
    if not any(classes):
        assert {*ULTRASOUND_IMAGES, *RESULTS} < {uid for uid, _ in archive.proposed}


def test_what_is_not_kept_is_no_error_here(free_port: Callable[[], int]) -> None:
    port = free_port()
    with giving(port, image(1), image(2)):
        assert len(got(port, SC_IMAGE, refused="1.5.2")) == 2


def test_an_archive_that_gives_up_is_said_with_its_status(free_port: Callable[[], int]) -> None:
    port = free_port()
    given_up = pytest.raises(DestinationDownError, match="C-GET with 0xC001")
    with giving(port, image(1)) as archive, given_up:
        archive.status = 0xC001
        got(port, SC_IMAGE)


def test_an_archive_without_c_get_is_said_with_the_cure(free_port: Callable[[], int]) -> None:
    port = free_port()
    ae = AE("PACS")
    ae.add_supported_context(SC_IMAGE)
    ae.start_server(("127.0.0.1", port), block=False)
    with pytest.raises(DestinationDownError, match="or set its retrieve: move"):
        got(port, SC_IMAGE)
    shut_down(ae)


def test_some_instances_of_a_series_are_asked_for_by_name() -> None:
    query = image_query("1.2", "1.3", ["1.5.1", "1.5.2"])
    assert query.QueryRetrieveLevel == "IMAGE"
    assert query.SeriesInstanceUID == "1.3"
    assert list(query.SOPInstanceUID) == ["1.5.1", "1.5.2"]
