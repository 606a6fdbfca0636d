import base64
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from dicom_node.certificates import server_context
from dicom_node.cli.destinations import destinations
from dicom_node.config import Config, DicomwebDestination
from dicom_node.deliver import Outcome, Verdict, ask
from dicom_node.deliver.stow import REQUEST_BYTES, batches, send
from dicom_node.deliver.stow_answers import HTTP_STATUSES
from tests.support.certificates import certificates
from tests.support.orthanc import orthanc
from tests.support.owed import SR, result
from tests.support.stow_server import Reply, StowServer, stored, stow_server

TWO = ("1.1", "1.2")


def sent(server: StowServer, folder: Path, *uids: str) -> list[Outcome]:
    return list(send([result(folder, uid) for uid in uids], server.destination))


def verdicts(outcomes: list[Outcome]) -> list[Verdict]:
    return [outcome.verdict for outcome in outcomes]


def test_a_study_goes_in_one_request_with_its_length(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with stow_server(port) as server:
        server.answer = lambda uids: Reply(model=stored(*uids))
        assert verdicts(sent(server, tmp_path, *TWO)) == [Verdict.DELIVERED] * 2
    assert server.requests == [list(TWO)]
    [headers] = server.headers
    assert headers["Host"] == f"127.0.0.1:{port}"
    assert headers["Accept"] == "application/dicom+json"
    assert headers["Authorization"] is None


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (301, Verdict.PERMANENT),
        (400, Verdict.PERMANENT),
        (401, Verdict.TEMPORARY),
        (403, Verdict.PERMANENT),
        (404, Verdict.PERMANENT),
        (409, Verdict.PERMANENT),
        (413, Verdict.PERMANENT),
        (418, Verdict.PERMANENT),
        (429, Verdict.TEMPORARY),
        (500, Verdict.TEMPORARY),
        (501, Verdict.PERMANENT),
        (503, Verdict.TEMPORARY),
        (507, Verdict.TEMPORARY),
    ],
)
def test_a_status_without_a_body_means_what_the_standard_says(
    tmp_path: Path, free_port: Callable[[], int], status: int, verdict: Verdict
) -> None:
    with stow_server(free_port()) as server:
        headers = {"Location": server.destination.url} if status == 301 else {}
        server.answer = lambda _: Reply(status=status, headers=headers)
        [outcome] = sent(server, tmp_path, "1.1")
    assert outcome.verdict is verdict
    assert len(server.requests) == 1
    assert not outcome.is_down
    if verdict is not Verdict.DELIVERED:
        assert outcome.reason.startswith(f"HTTP {status}: ")


def test_every_status_has_one_row_that_speaks() -> None:
    for status in range(300, 600):
        assert any(low <= status <= high for low, high, *_ in HTTP_STATUSES), status


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (0xA700, Verdict.TEMPORARY),
        (0x0110, Verdict.TEMPORARY),
        (0xA900, Verdict.PERMANENT),
        (0xC122, Verdict.PERMANENT),
        (0x0122, Verdict.PERMANENT),
        (0x0111, Verdict.DELIVERED),
        # a failure is none that was stored, whatever it is called
        (0x0000, Verdict.TEMPORARY),
        (0xB000, Verdict.TEMPORARY),
    ],
)
@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_failure_reason_counts_for_its_own_object(
    tmp_path: Path, free_port: Callable[[], int], status: int, reason: int, verdict: Verdict
) -> None:
    with stow_server(free_port()) as server:
        server.answer = lambda _: Reply(status=status, model=stored("1.2", failed={"1.1": reason}))
        failed, _ = sent(server, tmp_path, *TWO)
    assert failed.verdict is verdict
    assert failed.status == reason
    assert server.requests == [list(TWO)]


def test_accepted_counts_only_for_what_the_answer_names(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with stow_server(free_port()) as server:
        server.answer = lambda _: Reply(status=202, model=stored("1.1"))
        found = sent(server, tmp_path, *TWO)
    assert verdicts(found) == [Verdict.DELIVERED, Verdict.TEMPORARY]
    assert "does not name" in found[1].reason


@pytest.mark.parametrize("status", [400, 409, 413])
def test_a_refused_request_of_several_objects_is_asked_again_one_by_one(
    tmp_path: Path, free_port: Callable[[], int], status: int
) -> None:
    with stow_server(free_port()) as server:
        server.answer = lambda uids: Reply(status=status if "1.2" in uids else 200)
        found = sent(server, tmp_path, *TWO)
    assert verdicts(found) == [Verdict.DELIVERED, Verdict.PERMANENT]
    assert server.requests == [list(TWO), ["1.1"], ["1.2"]]


@pytest.mark.parametrize("model", ["words", [], {"00081198": {"vr": "SQ", "Value": [{}]}}, 7])
def test_an_answer_that_nobody_understands_counts_by_its_status(
    tmp_path: Path, free_port: Callable[[], int], model: object
) -> None:
    with stow_server(free_port()) as server:
        server.answer = lambda _: Reply(model=model)
        assert verdicts(sent(server, tmp_path, "1.1")) == [Verdict.DELIVERED]
        server.answer = lambda _: Reply(status=503, model=model)
        assert verdicts(sent(server, tmp_path, "1.1")) == [Verdict.TEMPORARY]


def test_a_dropped_connection_is_temporary(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with stow_server(free_port()) as server:
        server.answer = lambda _: Reply(status=None)
        [outcome] = sent(server, tmp_path, "1.1")
    assert (outcome.verdict, outcome.is_down) == (Verdict.TEMPORARY, False)
    assert "dropped" in outcome.reason


def test_a_server_that_says_nothing_is_left_after_the_time_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        destination = DicomwebDestination(
            name="web",
            kind="dicomweb",
            url=f"http://127.0.0.1:{silent.getsockname()[1]}",
            timeout_s=0.2,
        )
        [outcome] = send([result(tmp_path, "1.1")], destination)
    assert (outcome.verdict, outcome.is_down) == (Verdict.TEMPORARY, False)
    assert outcome.reason == "no answer in time"


def test_a_server_that_is_down_is_asked_once_for_all_that_is_owed(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.deliver.stow.REQUEST_BYTES", 1)
    with stow_server(free_port()) as server:
        pass
    found = sent(server, tmp_path, *TWO)
    assert verdicts(found) == [Verdict.TEMPORARY] * 2
    assert all(outcome.is_down for outcome in found)
    assert ask(server.destination, calling_ae_title="NODE").startswith("no connection")


def test_requests_are_of_bounded_size(tmp_path: Path) -> None:
    results = [result(tmp_path, f"1.{number}") for number in range(5)]
    for one, mebibytes in zip(results, (6, 6, 6, 40, 1), strict=True):
        with one.path.open("r+b") as file:
            file.truncate(mebibytes << 20)
    sizes = [[one.path.stat().st_size >> 20 for one in batch] for batch in batches(results)]
    assert REQUEST_BYTES == 16 << 20
    assert sizes == [[6, 6], [6], [40], [1]]


def test_a_missing_file_costs_only_itself(tmp_path: Path, free_port: Callable[[], int]) -> None:
    lost, kept = result(tmp_path, "1.1"), result(tmp_path, "1.2")
    lost.path.unlink()
    with stow_server(free_port()) as server:
        found = list(send([lost, kept], server.destination))
        assert verdicts(list(send([lost], server.destination))) == [Verdict.PERMANENT]
    assert verdicts(found) == [Verdict.PERMANENT, Verdict.DELIVERED]
    assert server.requests == [["1.2"]]


def test_a_token_is_shown_as_its_file_holds_it_now(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    path = tmp_path / "token"
    with stow_server(free_port(), token_file=path) as server:
        [outcome] = sent(server, tmp_path, "1.1")
        assert outcome.verdict is Verdict.TEMPORARY
        assert f"token_file: {path} cannot be read" in outcome.reason
        for token in ("first", "second"):
            path.write_text(f"{token}\n")
            sent(server, tmp_path, "1.1")
    shown = [headers["Authorization"] for headers in server.headers]
    assert shown == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("text", ["", "two\nlines\n"])
def test_a_token_file_that_holds_no_token_is_named(
    tmp_path: Path, free_port: Callable[[], int], text: str
) -> None:
    (tmp_path / "token").write_text(text)
    with stow_server(free_port(), token_file=tmp_path / "token") as server:
        [outcome] = sent(server, tmp_path, "1.1")
    assert "must hold one line" in outcome.reason
    assert server.requests == []


def test_user_and_password_are_shown(tmp_path: Path, free_port: Callable[[], int]) -> None:
    path = tmp_path / "password"
    path.write_text("gr\u00fcn\n", "utf-8")
    with stow_server(free_port(), user="node", password_file=path) as server:
        sent(server, tmp_path, "1.1")
        [(_, fault, found)] = destinations(Config(destinations=(server.destination,)))
    expected = base64.b64encode("node:gr\u00fcn".encode()).decode()
    assert server.headers[0]["Authorization"] == f"Basic {expected}"
    assert fault == ""
    assert "answers QIDO-RS; warning: token and password travel in the clear" in found


def test_a_redirected_object_is_not_taken_for_stored(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with stow_server(free_port()) as server:
        elsewhere = {"Location": f"{server.destination.url}/elsewhere"}
        server.answer = lambda _: Reply(status=302, headers=elsewhere)
        [outcome] = sent(server, tmp_path, "1.1")
    assert outcome.verdict is Verdict.PERMANENT
    assert "correct url" in outcome.reason


def test_https_trusts_the_authority_that_is_configured_and_no_other(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    made = certificates(tmp_path)
    context = server_context(made.settings(1, callers_ca=None))
    ca = tmp_path / "ca.pem"
    with stow_server(free_port(), ssl_context=context, ca=ca) as server:
        assert verdicts(sent(server, tmp_path, "1.1")) == [Verdict.DELIVERED]
        trusting = server.destination
        for wrong, words in ((None, "no TLS"), (tmp_path / "absent.pem", "absent.pem cannot")):
            server.destination = trusting.model_copy(update={"ca": wrong})
            [outcome] = sent(server, tmp_path, "1.1")
            assert (outcome.verdict, outcome.is_down) == (Verdict.TEMPORARY, True)
            assert words in outcome.reason


def test_the_library_is_loaded_by_who_sends_this_way_and_by_nobody_else() -> None:
    script = """
import sys, dicom_node.pipeline, dicom_node.cli.checks
print("dicomweb_client" in sys.modules)
"""
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.peers
def test_orthanc_takes_what_it_is_sent_from_who_it_knows(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program = needs_program("Orthanc")
    password = tmp_path / "password"
    password.write_text("secret\n")
    folder = tmp_path / "orthanc"
    with orthanc(program, folder, free_port, node_port=1, web_user="node:secret") as running:
        destination = DicomwebDestination(
            name="orthanc",
            kind="dicomweb",
            url=f"http://127.0.0.1:{running.http_port}/dicom-web",
            user="node",
            password_file=password,
        )
        assert ask(destination, calling_ae_title="NODE") == ""
        owed = [result(tmp_path, "1.1"), result(tmp_path, "1.2", SR, "sr")]
        for _ in range(2):  # what is there already is there
            assert verdicts(list(send(owed, destination))) == [Verdict.DELIVERED] * 2
        assert running.studies() == [{"1.1", "1.2"}]
        password.write_text("wrong\n")
        [outcome] = send(owed[:1], destination)
        assert (outcome.verdict, outcome.reason[:9]) == (Verdict.TEMPORARY, "HTTP 401:")
        assert ask(destination, calling_ae_title="NODE").startswith("HTTP 401:")
