"""The demo's two stand-ins: a modality that sends, and a PACS that receives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from rich.progress import Progress

from dicom_node.config import Destination
from dicom_node.errors import DestinationDownError
from dicom_node.requestor import associate

#: What the PACS's stand-in takes: the node's results.
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR Storage
)
VERIFICATION = "1.2.840.10008.1.1"
LOOPBACK = "127.0.0.1"
#: A modality sends what is left over a new association.
ATTEMPTS = 3


@contextmanager
def receiving_pacs(folder: Path, port: int, *, ae_title: str) -> Iterator[None]:
    """Run a storage SCP on loopback that keeps every object as ``<SOP Instance UID>.dcm``."""
    folder.mkdir(parents=True, exist_ok=True)
    ae = AE(ae_title=ae_title)
    for sop_class in (*RESULT_CLASSES, VERIFICATION):
        ae.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])

    def store(event: evt.Event) -> int:
        part = folder / f"{event.file_meta.MediaStorageSOPInstanceUID}.part"
        part.write_bytes(event.encoded_dataset())
        part.rename(part.with_suffix(".dcm"))
        return 0x0000

    ae.start_server((LOOPBACK, port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield
    finally:
        ae.shutdown()


def send_files(
    files: Sequence[Path], port: int, *, ae_titles: tuple[str, str], progress: Progress, what: str
) -> int:
    """Send files by C-STORE as a modality does, each in its own transfer syntax.

    Parameters
    ----------
    files : sequence of Path
        DICOM files.
    port : int
        The node's port on loopback.
    ae_titles : tuple of str
        (ours, the node's).
    progress : Progress
        Shows a bar.
    what : str
        The bar's name.

    Returns
    -------
    int
        How many were acknowledged with success.

    Raises
    ------
    DestinationDownError
        When the node accepts no association, or ends one after the other.
    """
    datasets = [dcmread(file) for file in files]
    statuses: list[int] = []
    bar = progress.add_task(what, total=len(datasets))
    for _ in range(ATTEMPTS):
        if len(statuses) == len(datasets):
            break
        for status in _send(datasets[len(statuses) :], port, ae_titles):
            statuses.append(status)
            progress.advance(bar)
    if len(statuses) < len(datasets):
        raise DestinationDownError(
            f"the node on port {port} took {len(statuses)} of {len(datasets)} objects; "
            "see node.log in the demo's folder"
        )
    return statuses.count(0x0000)


def _send(datasets: Sequence[Dataset], port: int, ae_titles: tuple[str, str]) -> Iterator[int]:
    """Yield a status for each object, as long as the association stands."""
    wanted = {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}
    assoc = associate(
        Destination(name="node", ae_title=ae_titles[1], host=LOOPBACK, port=port),
        [build_context(*context) for context in sorted(wanted)],
        calling_ae_title=ae_titles[0],
    )
    try:
        for dataset in datasets:
            if not assoc.is_established:
                return
            answer = assoc.send_c_store(dataset)
            if "Status" in answer:
                yield int(answer.Status)
    finally:
        if assoc.is_established:
            assoc.release()
