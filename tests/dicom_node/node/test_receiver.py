import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from dicom_node.node.serve import RECEIVER, WORKER
from tests.support.nodes import Node, node_on, until

#: pynetdicom imports pydicom, which imports numpy, Pillow and what decoders it finds.
HEAVY = ("highdicom", "onnxruntime", "dbos", "torch", "sqlalchemy", "typer")
LIMIT_BYTES = 150_000_000


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        f"import {RECEIVER.split(':')[0]}",
        "import dicom_node.node.serve",
        # what multiprocessing imports first in every child of ``python -m dicom_node``
        "import runpy; runpy.run_module('dicom_node.__main__', run_name='__mp_main__')",
    ],
)
def test_a_receiver_and_the_supervisor_load_no_model_no_database_and_no_command_line(
    statement: str,
) -> None:
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_the_worker_would_load_them() -> None:
    assert not loaded_by(f"import {WORKER.split(':')[0]}").isdisjoint(HEAVY)


@pytest.mark.slow
@pytest.mark.dimse
def test_a_receiver_stays_under_150_mb_also_after_a_100_mb_cine(
    tmp_path: Path, free_port: object
) -> None:
    assert callable(free_port)
    with node_on(tmp_path, free_port()) as node:
        node.start()
        store_cine(node)
        until(lambda: registered(node), why=node.log)
        peaks = {name: peak_bytes(process) for name, process in receivers(node)}
        assert peaks, "no receiver was found"
        assert max(peaks.values()) < LIMIT_BYTES


def store_cine(node: Node) -> None:
    from pynetdicom import AE  # noqa: PLC0415

    cine = Dataset()
    cine.file_meta = FileMetaDataset()
    cine.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    cine.SOPClassUID = UltrasoundMultiFrameImageStorage
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(cine, keyword, generate_uid())
    cine.Rows, cine.Columns, cine.NumberOfFrames = 1000, 1000, 100
    cine.SamplesPerPixel, cine.PhotometricInterpretation = 1, "MONOCHROME2"
    cine.BitsAllocated = cine.BitsStored = 8
    cine.HighBit, cine.PixelRepresentation = 7, 0
    cine.PixelData = bytes(100_000_000)
    ae = AE(ae_title="TESTER")
    ae.add_requested_context(cine.SOPClassUID, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", node.port, ae_title="NODE")
    assert assoc.is_established
    assert assoc.send_c_store(cine).Status == 0
    assoc.release()


def registered(node: Node) -> bool:
    with node.index() as index:
        return index.counts()["instances"] == 1


def receivers(node: Node) -> list[tuple[int, psutil.Process]]:
    """Return the processes that listen on the node's port, the supervisor apart."""
    return [
        (process.pid, process)
        for process in node.processes()[1:]
        if any(c.laddr.port == node.port for c in process.net_connections(kind="tcp"))
    ]


def peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
