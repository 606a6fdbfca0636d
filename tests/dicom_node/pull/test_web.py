import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from dicom_node.config import DicomwebArchive
from dicom_node.deliver.web_session import open_session
from dicom_node.errors import DestinationDownError, NodeError, NotGivenError, UnreadableError
from dicom_node.pull.asked import Image, Incoming, Wanted
from dicom_node.pull.slices import Slice
from dicom_node.pull.web import WebPuller, parts
from tests.support.archived import write_study

DAY = Slice(day=date(2024, 1, 2))
WANTED = Wanted(since=DAY.day, until=DAY.day, modality="US", description="US L*")


@dataclass
class QidoServer:
    """Answers searches out of a list, and everything else with one body."""

    items: list[dict[str, Any]] = field(default_factory=list)
    #: it gives no more at a time
    page: int = 1000
    knows_offset: bool = True
    status: int = 200
    #: of the next answers, one after the other
    statuses: list[int] = field(default_factory=list)
    body: bytes = b""
    content_type: str = "application/dicom+json"
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def search(self, query: dict[str, list[str]]) -> bytes:
        self.asked.append(query)
        start = int(query.get("offset", ["0"])[0]) if self.knows_offset else 0
        most = min(self.page, int(query.get("limit", ["1000"])[0]))
        return json.dumps(self.items[start : start + most]).encode()


@contextmanager
def server(state: QidoServer, port: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = state.body or state.search(query)
            self.send_response(state.statuses.pop(0) if state.statuses else state.status)
            self.send_header("Content-Type", state.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


class Asking:
    """A server, and who asks it."""

    def __init__(self, url: str, state: QidoServer) -> None:
        at = DicomwebArchive.model_validate(
            {"name": "web", "kind": "dicomweb", "url": url, "timeout_s": 10.0}
        )
        self.state, self.kept = state, list[Incoming]()
        self.puller = WebPuller(at, open_session(at), keep=self._keep)

    def _keep(self, incoming: Incoming) -> int:
        self.kept.append(incoming)
        return 0


@pytest.fixture
def asking(free_port: Callable[[], int]) -> Iterator[Asking]:
    state = QidoServer()
    with server(state, free_port()) as url:
        found = Asking(url, state)
        yield found
        found.puller.close()


def study(number: int) -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
        "00080020": {"vr": "DA", "Value": ["20240102"]},
        "00081030": {"vr": "LO"},
        "00080061": {"vr": "CS", "Value": ["US", None]},
        "00201208": {"vr": "IS", "Value": [number]},
    }


def test_all_pages_of_a_search_are_asked_for(asking: Asking) -> None:
    asking.state.items = [study(number) for number in range(450)]
    asking.state.page = 100
    answer = asking.puller.studies(DAY, WANTED)
    assert (len(answer.studies), answer.is_whole) == (450, True)
    one = answer.studies["1.2.7"]
    assert (one.instances, one.date, one.description) == (7, "20240102", "")
    assert one.modalities == {"US"}
    query = asking.state.asked[0]
    assert query["StudyDate"] == ["20240102"]
    assert query["ModalitiesInStudy"] == ["US"]
    assert "StudyTime" not in query
    assert "StudyDescription" not in query, "servers differ in how they read wild cards"


def test_a_server_that_knows_no_offset_may_have_more(asking: Asking) -> None:
    asking.state.items = [study(number) for number in range(450)]
    asking.state.knows_offset = False
    answer = asking.puller.studies(DAY, WANTED)
    assert (len(answer.studies), answer.is_whole) == (200, False)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"no", "HTTP 401"),
        (200, b"<html>PATIENT</html>", "not DICOMweb"),
        (200, b'[["PATIENT"]]', "not DICOMweb"),
    ],
)
def test_a_server_that_answers_something_else_is_said_without_its_words(
    asking: Asking, status: int, body: bytes, words: str
) -> None:
    asking.state.status, asking.state.body = status, body
    with pytest.raises(DestinationDownError, match=words) as raised:
        asking.puller.studies(DAY, WANTED)
    assert "PATIENT" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, NotGivenError),
        (403, NotGivenError),
        (404, NotGivenError),
        (401, DestinationDownError),
        (408, DestinationDownError),
        (429, DestinationDownError),
        (500, DestinationDownError),
        (503, DestinationDownError),
    ],
)
def test_an_answer_about_one_study_is_told_from_one_about_the_server(
    asking: Asking, status: int, expected: type[NodeError]
) -> None:
    asking.state.status, asking.state.body = status, b"PATIENT"
    with pytest.raises(expected, match=f"HTTP {status}") as raised:
        asking.puller.images("1.2")
    assert "PATIENT" not in str(raised.value)
    with pytest.raises(DestinationDownError):
        asking.puller.studies(DAY, WANTED)


def test_an_instance_that_is_not_given_keeps_no_other_from_coming(
    asking: Asking, tmp_path: Path
) -> None:
    asking.state.body = write_study(tmp_path, 1, images=1).files[0].read_bytes()
    asking.state.content_type, asking.state.statuses = "application/dicom", [403, 200]
    images = [Image(series_instance_uid="1.3", sop_instance_uid=f"1.4.{one}") for one in (1, 2)]
    with pytest.raises(NotGivenError, match="HTTP 403"):
        asking.puller.retrieve("1.2", images, whole=True)
    assert len(asking.kept) == 1


def test_nobody_there_is_said(free_port: Callable[[], int]) -> None:
    asking = Asking(f"http://127.0.0.1:{free_port()}", QidoServer())
    with pytest.raises(DestinationDownError, match="archives: web"):
        asking.puller.images("1.2")
    asking.puller.close()


@pytest.mark.parametrize("is_multipart", [True, False])
def test_an_instance_is_kept_as_it_came(asking: Asking, tmp_path: Path, is_multipart: bool) -> None:
    file = write_study(tmp_path, 1, images=1).files[0].read_bytes()
    asking.state.body, asking.state.content_type = file, "application/dicom"
    if is_multipart:
        asking.state.body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--x--"
        asking.state.content_type = 'multipart/related; type="application/dicom"; boundary=x'
    image = Image(series_instance_uid="1.3", sop_instance_uid="1.4")
    asking.puller.retrieve("1.2", [image], whole=True)
    [kept] = asking.kept
    assert kept.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert file.endswith(b"".join(bytes(part) for part in kept.fragments))
    assert len(b"".join(bytes(part) for part in kept.fragments)) > 300


def test_an_instance_that_is_gone_is_no_error(asking: Asking) -> None:
    asking.state.status, asking.state.body = 404, b"gone"
    image = Image(series_instance_uid="1.3", sop_instance_uid="1.4")
    asking.puller.retrieve("1.2", [image], whole=True)
    assert asking.kept == []


def test_a_multipart_message_is_taken_apart() -> None:
    kind = 'multipart/related; boundary="a b"'
    content = b"preface--a b\r\nX: 1\r\n\r\none\r\n--a b\r\n\r\ntwo\r\n--a b--\r\n"
    assert [bytes(part) for part in parts(kind, content)] == [b"one", b"two"]
    assert list(parts(kind, b"--a b--")) == []


@pytest.mark.parametrize("content", [b"", b"--x\r\n\r\none", b"--x\r\nX: 1\r\n"])
def test_a_multipart_message_that_breaks_off_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        list(parts("multipart/related; boundary=x", content))
