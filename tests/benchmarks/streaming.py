"""Small studies through a node as its user runs it: its memory, its pace, its rate."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.demo.ports import free_port
from dicom_node.phantom.study import StudySpec, ViewSpec, write_study
from dicom_node.records import Task
from tests.support.bundles import write_bundle
from tests.support.nodes import Node, node_on, until
from tests.support.pacs import Pacs, pacs

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"

#: The slowest machine that still tells something takes so long for one study.
_STUDY_S: Final = 20.0
_STARTED_S: Final = 120.0
_QUIET_S: Final = 1.0
#: Studies of which a SEG and an SR come back.
_RESULTS: Final = 2
#: So many are under way at most while memory is watched.
_UNDER_WAY: Final = 50


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The worker's resident memory by the number of studies that it had worked on."""

    worker_rss_bytes: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What came of a stream of studies, and of a burst."""

    #: from completion into the PACS, of each study of the stream
    waited_s: tuple[float, ...]
    burst: int
    most_per_s: float


def memory(folder: Path, marks: Sequence[int]) -> Memory:
    """Send studies of one still and read the worker's memory when some number was delivered."""
    found: dict[int, int] = {}
    with _running(folder) as (node, peer, modality):
        sent = 0
        for mark in sorted(marks):
            while sent < mark:
                modality.send()
                sent += 1
                _wait_for(peer, _RESULTS * (sent - _UNDER_WAY))
            _wait_for(peer, _RESULTS * mark)
            found[mark] = _worker(node).memory_info().rss
    return Memory(worker_rss_bytes=found)


def stream(folder: Path, seconds: int, burst: int) -> Stream:
    """Send one study a second, then a burst."""
    with _running(folder) as (node, peer, modality):
        arrived = _Arrivals(peer)
        modality.send()
        _wait_for(peer, _RESULTS)  # the model is loaded
        began, studies = time.monotonic(), []
        for second in range(seconds):
            time.sleep(max(0.0, began + second - time.monotonic()))
            studies.append(modality.send())
        _wait_for(peer, _RESULTS * (seconds + 1))
        waited = _waited(node, arrived, studies)
        crowd = [modality.send() for _ in range(burst)]
        _wait_for(peer, _RESULTS * (seconds + 1 + burst))
        took_s = _took_s(node, arrived, crowd)
    return Stream(waited_s=tuple(waited), burst=burst, most_per_s=burst / took_s)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all lie."""
    return float(np.quantile(np.array(values), share))


class _Arrivals:
    """When the last object of each study came into a PACS."""

    def __init__(self, peer: Pacs) -> None:
        self.last_at: dict[str, datetime] = {}
        self._lock = threading.Lock()
        peer.answer = self._note

    def _note(self, dataset: Dataset) -> int:
        with self._lock:
            self.last_at[str(dataset.StudyInstanceUID)] = datetime.now(UTC)
        return 0x0000


class _Modality:
    """Sends a still again and again, each time as a study of its own over its own association."""

    def __init__(self, port: int, still: Dataset) -> None:
        self._port, self._still = port, still
        self._ae = AE(ae_title="BENCH")
        syntax = still.file_meta.TransferSyntaxUID
        self._ae.requested_contexts = [build_context(still.SOPClassUID, syntax)]

    def send(self) -> str:
        """Send one study; return its UID."""
        still = self._still
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(still, keyword, generate_uid(prefix="2.25."))
        still.file_meta.MediaStorageSOPInstanceUID = still.SOPInstanceUID
        still.PatientID = f"BENCH{still.StudyInstanceUID[-12:]}"
        assoc = self._ae.associate("127.0.0.1", self._port, ae_title="NODE")
        assert assoc.is_established, "the node took no association"
        status = assoc.send_c_store(still).Status
        assoc.release()
        assert status == 0x0000, f"the node answered 0x{status:04X}"
        return str(still.StudyInstanceUID)


@contextmanager
def _running(folder: Path) -> Iterator[tuple[Node, Pacs, _Modality]]:
    """Run a node with a small model and a PACS; yield them with a modality."""
    with (
        pacs(free_port(), SEG, SR) as peer,
        node_on(folder, free_port(), peer.destination, quiet_s=_QUIET_S) as node,
    ):
        write_bundle(folder / "bundles" / "small.onnx", Task.SEGMENTATION)
        spec = StudySpec(seed=0, patient=0, views=(ViewSpec(quality=4),))
        [phantom] = write_study(folder / "sent", spec)
        node.start()
        yield node, peer, _Modality(node.port, dcmread(phantom.path))


def _worker(node: Node) -> psutil.Process:
    lock = str(node.layout.data / "worker.lock")
    return next(
        process
        for process in node.processes()
        if any(file.path == lock for file in process.open_files())
    )


def _wait_for(peer: Pacs, objects: int) -> None:
    until(
        lambda: len(peer.received) >= objects,
        deadline_s=_STARTED_S + _STUDY_S * _UNDER_WAY,
        why=f"{objects} objects in the PACS",
    )


def _waited(node: Node, arrived: _Arrivals, studies: Sequence[str]) -> list[float]:
    with node.index() as index:
        rows = {study: index.study(study) for study in studies}
    return [
        (arrived.last_at[study] - row.completed_at).total_seconds()
        for study, row in rows.items()
        if row is not None and row.completed_at is not None
    ]


def _took_s(node: Node, arrived: _Arrivals, studies: Sequence[str]) -> float:
    """Return the seconds from the first completion to the last arrival."""
    with node.index() as index:
        rows = [index.study(study) for study in studies]
    completed = [row.completed_at for row in rows if row is not None and row.completed_at]
    return (max(arrived.last_at[study] for study in studies) - min(completed)).total_seconds()
