"""Small ultrasound files of many days, and archives on loopback that have them."""

import os
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.config import DimseArchive
from dicom_node.phantom.study import US_IMAGE
from dicom_node.pull.count import STUDY_ROOT_FIND
from tests.support.nodes import until
from tests.support.scp import shut_down

PATIENT = "PULLED^NOBODY"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A study that an archive has, and its files."""

    uid: str
    files: tuple[Path, ...]

    @property
    def instances(self) -> set[str]:
        return {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in self.files}


def write_study(
    folder: Path,
    number: int,
    *,
    day: str = "20240102",
    time: str = "120000",
    description: str = "US LIVER",
    images: int = 2,
) -> Stored:
    """Write the files of a study of two series."""
    folder.mkdir(parents=True, exist_ok=True)
    study = _uid(f"{number}")
    files = []
    for place in range(images):
        ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = US_IMAGE, _uid(f"{number} {place}")
        ds.StudyInstanceUID = study
        ds.SeriesInstanceUID = _uid(f"{number} series {place % 2}")
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PatientName, ds.PatientID = PATIENT, f"{PATIENT}-{number}"
        ds.StudyDate, ds.StudyTime, ds.StudyDescription = day, time, description
        ds.StudyID, ds.AccessionNumber, ds.Modality = str(number), "", "US"
        ds.SeriesNumber, ds.InstanceNumber = place % 2 + 1, place + 1
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = 16
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.PixelData = bytes([place]) * 256
        files.append(folder / f"{number}-{place}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    return Stored(uid=study, files=tuple(files))


@contextmanager
def dcmqrscp(
    program: str, folder: Path, free_port: Callable[[], int], *, node_port: int
) -> Iterator[int]:
    """Run DCMTK's archive ``PACS``, which knows the move destination NODE; give its port."""
    port = free_port()
    (folder / "PACS").mkdir(parents=True)
    lines = (
        f"NetworkTCPPort = {port}",
        "MaxPDUSize = 131072",
        "MaxAssociations = 16",
        "HostTable BEGIN",
        f"node = (NODE, localhost, {node_port})",
        "HostTable END",
        "VendorTable BEGIN",
        "VendorTable END",
        "AETable BEGIN",
        f"PACS {folder / 'PACS'} RW (500, 1024mb) ANY",
        "AETable END",
    )
    (folder / "dcmqrscp.cfg").write_text("\n".join(lines) + "\n")
    # DCMTK leaves Nagle on: without this each C-STORE waits 44 ms
    environment = {**os.environ, "TCP_NODELAY": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(folder / "dcmqrscp.cfg"), "--fork"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def fill(port: int, studies: Sequence[Stored]) -> None:
    """Store studies in the archive ``PACS`` by C-STORE."""
    ae = AE("TESTER")
    ae.add_requested_context(US_IMAGE, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", port, ae_title="PACS")
    assert assoc.is_established
    for study in studies:
        for file in study.files:
            assert assoc.send_c_store(dcmread(file)).Status == 0x0000
    assoc.release()


@dataclass
class Answering:
    """A C-FIND SCP of studies, and how it keeps to the standard."""

    studies: list[Dataset] = field(default_factory=list)
    #: it answers no more than so many, with this status at the end
    limit: int = 1000
    cut_status: int = 0x0000
    #: keys that it takes no notice of
    ignores: tuple[str, ...] = ()
    #: keys that it does not answer
    lacks: tuple[str, ...] = ()
    asked: list[Dataset] = field(default_factory=list)

    def add(self, uid: str, day: str, time: str = "", description: str = "") -> None:
        ds = Dataset()
        ds.StudyInstanceUID, ds.StudyDate, ds.StudyTime = uid, day, time
        ds.StudyDescription, ds.ModalitiesInStudy = description, ["US", "SR"]
        ds.NumberOfStudyRelatedInstances = 3
        self.studies.append(ds)


@contextmanager
def answering(port: int, ssl_context: ssl.SSLContext | None = None) -> Iterator[Answering]:
    """Run an archive that answers C-FIND."""
    state = Answering()

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        state.asked.append(event.identifier)
        found = [one for one in state.studies if _fits(one, event.identifier, state.ignores)]
        for one in found[: state.limit]:
            yield 0xFF00, _without(one, state.lacks)
        if len(found) > state.limit and state.cut_status:
            yield state.cut_status, None

    ae = AE("PACS")
    ae.add_supported_context(STUDY_ROOT_FIND)
    ae.start_server(
        ("127.0.0.1", port),
        block=False,
        ssl_context=ssl_context,
        evt_handlers=[(evt.EVT_C_FIND, find)],
    )
    try:
        yield state
    finally:
        shut_down(ae)


def archive_at(port: int, **settings: object) -> DimseArchive:
    """Return the configuration of an archive ``PACS`` on loopback."""
    values = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
    return DimseArchive.model_validate(values | {"timeout_s": 10.0} | settings)


def _fits(study: Dataset, query: Dataset, ignores: Sequence[str]) -> bool:
    for keyword in ("StudyDate", "StudyTime"):
        wanted = str(query.get(keyword) or "")
        if wanted and keyword not in ignores:
            begin, _, end = wanted.partition("-")
            if not begin <= str(study.get(keyword)) <= (end or begin):
                return False
    wanted = str(query.get("StudyDescription") or "").strip("*")
    return "StudyDescription" in ignores or wanted in str(study.StudyDescription)


def _without(study: Dataset, lacks: Sequence[str]) -> Dataset:
    answer = Dataset()
    answer.update({element.tag: element for element in study if element.keyword not in lacks})
    answer.QueryRetrieveLevel = "STUDY"
    return answer


def _answers(port: int) -> bool:
    ae = AE("TESTER")
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate("127.0.0.1", port, ae_title="PACS")
    if assoc.is_established:
        assoc.release()
        return True
    return False


def _uid(what: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'archived {what}').int}"
