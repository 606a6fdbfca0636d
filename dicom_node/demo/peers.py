"""The demo's two stand-ins: a modality that sends, and a PACS that receives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from rich.progress import Progress

from dicom_node.errors import DestinationDownError

#: What the PACS's stand-in takes: the node's results.
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR Storage
)
VERIFICATION = "1.2.840.10008.1.1"


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

    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
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
        When the node does not accept the association.
    """
    datasets = [dcmread(file) for file in files]
    wanted = {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}
    ae = AE(ae_title=ae_titles[0])
    ae.requested_contexts = [build_context(*context) for context in sorted(wanted)]
    assoc = ae.associate("127.0.0.1", port, ae_title=ae_titles[1])
    if not assoc.is_established:
        raise DestinationDownError(f"the node on port {port} accepts no association")
    acknowledged = 0
    try:
        for dataset in progress.track(datasets, description=what):
            acknowledged += assoc.send_c_store(dataset).get("Status") == 0x0000
    finally:
        assoc.release()
    return acknowledged
