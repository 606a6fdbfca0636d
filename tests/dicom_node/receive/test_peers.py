"""Real files, as bytes and from real peers: DCMTK's dcmsend and Orthanc."""

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import pytest
from pydicom import examples
from pydicom.filereader import read_file_meta_info

from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.register import register_waiting
from tests.support.receiving import (
    RawPeer,
    data_set,
    eventually,
    p_data,
    receiver,
    receiver_process,
    settings_for,
    store_command,
)

pytestmark = pytest.mark.dimse

GIB = 1 << 30
PIECE = 16_000
#: Orthanc 1.10.1 itself ends at them
TOO_DEEP_FOR_ORTHANC = {"2026-05-06-Deeply-Nested-Sequence.dcm", "nest_400.dcm"}


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


def dcmsend(program: str, port: int, *files: Path) -> str:
    """Send each file in its own transfer syntax, undecoded; return what dcmsend says."""
    command = [program, "-v", "-dn", "-nh", "-nuc", "-aet", "PEER", "-aec", "DICOM_NODE"]
    done = subprocess.run(
        [*command, "127.0.0.1", str(port), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def successes(report: str) -> int:
    return report.count("Received C-STORE Response (Success)")


def digests(paths: list[Path]) -> Counter[str]:
    return Counter(hashlib.sha256(data_set(path)).hexdigest() for path in paths)


@contextmanager
def peer_process(command: list[str], is_up: Callable[[], bool]) -> Iterator[None]:
    # DCMTK 3.6.7 leaves Nagle's algorithm on: without TCP_NODELAY every answer takes 44 ms
    process = subprocess.Popen(
        command,
        env=os.environ | {"TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(is_up, 30)
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.data
@pytest.mark.slow
def test_every_real_file_is_kept_byte_for_byte(
    inbox: Inbox, free_port: Callable[[], int], test_data: Path
) -> None:
    sent = []
    with receiver(settings_for(free_port()), inbox) as running:
        for path in sorted((test_data / "dicom_us").glob("*.dcm")):
            content = path.read_bytes()
            if content[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
                continue  # where its data set begins is open to debate
            meta, data = read_file_meta_info(path), data_set(path)
            # some UIDs are illegal: sent as they are, unparsed
            uid = bytes(meta.get_item("MediaStorageSOPInstanceUID").value).rstrip(b"\0")
            sop_class = str(meta.MediaStorageSOPClassUID)
            with RawPeer(running.port) as peer:
                peer.associate(sop_class, str(meta.TransferSyntaxUID))
                peer.send(p_data(3, store_command(uid, sop_class_uid=sop_class)))
                for start in range(0, len(data), PIECE):
                    peer.send(p_data(0, data[start : start + PIECE]))
                peer.send(p_data(2, b""))
                assert peer.status() == 0x0000, path.name
            sent.append(path)
        assert digests(running.received()) == digests(sent)
    assert len(sent) > 30


@pytest.mark.peers
def test_dcmsend_brings_the_files_that_pydicom_ships(
    inbox: Inbox, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program = needs_program("dcmsend")
    names = ("palette_color", "ybr_color", "jpeg2k", "rgb_color")
    with receiver(settings_for(free_port()), inbox) as running:
        report = dcmsend(program, running.port, *(Path(examples.get_path(n)) for n in names))
        assert successes(report) == len(names)
        assert len(running.received()) == len(names)


@pytest.mark.peers
@pytest.mark.data
@pytest.mark.slow
def test_what_dcmsend_sends_is_what_dcmtk_itself_would_keep(
    inbox: Inbox,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    test_data: Path,
) -> None:
    # dcmsend re-encodes what it parsed; storescp +B keeps the bytes that come over the network
    program, storescp = needs_program("dcmsend"), needs_program("storescp")
    files = sorted((test_data / "dicom_us").glob("*.dcm"))
    reference, port = tmp_path / "reference", free_port()
    reference.mkdir()
    command = [storescp, "+B", "+xa", "+uf", "-od", str(reference), str(port)]
    with peer_process(command, lambda: is_listening(port)):
        kept_by_storescp = successes(dcmsend(program, port, *files))
    with receiver(settings_for(free_port()), inbox) as running:
        report = dcmsend(program, running.port, *files)
        assert successes(report) == len(files), report[-2000:]
        received = digests(running.received())
    assert received.total() == len(files)
    expected = digests(list(reference.iterdir()))
    assert expected.total() == kept_by_storescp > 30
    assert expected <= received


def is_listening(port: int) -> bool:
    return any(
        connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
        for connection in psutil.net_connections("tcp")
        if connection.laddr
    )


@pytest.mark.peers
@pytest.mark.data
@pytest.mark.slow
def test_malformed_files_from_dcmsend_among_good_ones(
    inbox: Inbox,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    test_data: Path,
) -> None:
    program = needs_program("dcmsend")
    bad = sorted((test_data / "dicom_bad").glob("*.dcm"))
    good = Path(examples.get_path("jpeg2k"))
    settings = settings_for(free_port())
    stored = 0
    with receiver_process(settings, inbox) as process:
        for path in bad:
            stored += successes(dcmsend(program, settings.port, path))
            stored += successes(dcmsend(program, settings.port, good))
            assert process.is_alive()
        assert psutil.Process(process.pid).memory_info().rss < GIB
    assert len(inbox.waiting()) == stored >= len(bad) + 20
    counts = settle(inbox, tmp_path)
    assert counts.pop("duplicates") >= len(bad) - 1
    # whoever breaks out climbs up from the inbox; what other tests keep beside it is their own
    above = [found for folder in tmp_path.parents for found in folder.glob("*evil*")]
    assert not [*tmp_path.rglob("*evil*"), *above]


@pytest.mark.peers
@pytest.mark.data
@pytest.mark.slow
def test_what_orthanc_pushes_is_registered(
    inbox: Inbox,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    test_data: Path,
) -> None:
    settings = settings_for(free_port())
    files = [
        path
        for folder in ("dicom_us", "dicom_bad")
        for path in sorted((test_data / folder).glob("*.dcm"))
        if path.name not in TOO_DEEP_FOR_ORTHANC
    ]
    pushed, not_sent = 0, []
    with (
        orthanc(needs_program("Orthanc"), tmp_path, free_port(), settings.port) as url,
        receiver_process(settings, inbox) as process,
    ):
        for path in files:
            answer = call(f"{url}/instances", path.read_bytes())
            if not isinstance(answer, dict) or "ID" not in answer:
                continue  # Orthanc does not take it
            job = call(
                f"{url}/modalities/NODE/store",
                json.dumps({"Synchronous": True, "Resources": [answer["ID"]]}).encode(),
            )
            if job is None:
                not_sent.append(path.parent.name)
            else:
                pushed += 1
            assert process.is_alive()
        assert psutil.Process(process.pid).memory_info().rss < GIB
    # Orthanc 1.10.1 cannot send a few malformed files: no SOP class, deflated, JPEG XL
    assert "dicom_us" not in not_sent
    assert pushed > 80
    assert len(inbox.waiting()) == pushed
    settle(inbox, tmp_path)


def settle(inbox: Inbox, folder: Path) -> dict[str, int]:
    """Register everything; every file ends in the index or aside with a reason."""
    index = Index(folder / "index.db")
    waiting = len(inbox.waiting())
    counts = register_waiting(inbox, index, now=datetime.now(UTC), limit=waiting).as_dict()
    index.close()
    assert sum(counts.values()) == waiting
    assert inbox.waiting() == []
    assert counts["new"] > 10
    assert all(reason for _, reason in inbox.quarantined())
    return counts


@contextmanager
def orthanc(program: str, folder: Path, dicom_port: int, node_port: int) -> Iterator[str]:
    """Run an Orthanc that may push to the node; give the address of its REST interface."""
    http_port = dicom_port + 1
    configuration = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": "PEER",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
        "DicomScuTimeout": 10,
        "DicomModalities": {
            "NODE": {
                "AET": "NODE",
                "Host": "127.0.0.1",
                "Port": node_port,
                "AllowTranscoding": False,
            }
        },
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    url = f"http://127.0.0.1:{http_port}"
    with peer_process([program, str(path)], lambda: call(f"{url}/system") is not None):
        yield url


def call(url: str, body: bytes | None = None) -> Any:
    """Call a REST interface; None when it refuses."""
    try:
        with urlopen(Request(url, data=body), timeout=60) as response:
            return json.load(response)
    except (HTTPError, URLError, ConnectionError):
        return None
