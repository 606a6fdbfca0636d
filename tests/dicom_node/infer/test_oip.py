import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme

from dicom_node.errors import InferenceError, ModelServerDownError
from dicom_node.infer.oip import Client, SilentError
from tests.support.oip_server import OipServer, oip_server

FRAMES = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
LASTING = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "INTERNAL", "UNKNOWN")
PASSING = ("NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "ABORTED", "UNIMPLEMENTED")


@pytest.fixture
def server() -> Iterator[OipServer]:
    with oip_server() as running:
        yield running


@pytest.fixture
def client(server: OipServer) -> Iterator[Client]:
    client = Client(server.url)
    yield client
    client.close()


def ask(client: Client, timeout_s: float = 20.0) -> np.ndarray:
    answer = client.infer("test-quality", "", {"frames": FRAMES}, timeout_s)
    [output] = answer.outputs
    return output


@pytest.mark.parametrize("raw", [True, False], ids=["bytes", "numbers"])
def test_an_answer_is_read_in_both_of_the_ways_that_servers_write_it(
    server: OipServer, client: Client, raw: bool
) -> None:
    server.raw = raw
    assert np.array_equal(ask(client), FRAMES.astype(np.float32))
    [request] = server.asked
    assert (request.inputs[0].datatype, len(request.raw_input_contents[0])) == ("UINT8", 24)


def test_an_answer_may_be_larger_than_what_grpc_takes_of_itself(
    server: OipServer, client: Client
) -> None:
    server.run = lambda _: np.ones((4, 3, 256, 512), np.float32)
    assert ask(client).nbytes > 4 * 2**20


@pytest.mark.parametrize("name", LASTING)
def test_a_server_that_cannot_do_what_it_was_asked_is_not_asked_again(
    server: OipServer, client: Client, name: str
) -> None:
    server.failures = [grpc.StatusCode[name]]
    with pytest.raises(InferenceError, match=rf"model server failed \({name}: as it was told\)"):
        ask(client)
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", PASSING)
def test_a_server_that_cannot_now_is_told_from_one_that_never_can(
    server: OipServer, client: Client, name: str
) -> None:
    server.failures = [grpc.StatusCode[name]]
    with pytest.raises(ModelServerDownError, match=rf"gives no answer \({name}"):
        ask(client)


@pytest.mark.parametrize("name", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_server_that_is_busy_for_a_moment_answers_within_the_deadline(
    server: OipServer, client: Client, name: str
) -> None:
    server.failures = [grpc.StatusCode[name]] * 2
    assert ask(client).shape == FRAMES.shape
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_or_down_is_down(server: OipServer, client: Client) -> None:
    server.failures = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 9
    with pytest.raises(ModelServerDownError, match="RESOURCE_EXHAUSTED"):
        ask(client)
    absent = Client("grpc://127.0.0.1:1")
    with pytest.raises(ModelServerDownError, match=r"grpc://127\.0\.0\.1:1: .*UNAVAILABLE"):
        absent.server_is_ready(20.0)
    absent.close()


def test_a_deadline_that_passes_is_an_error_of_its_own(server: OipServer, client: Client) -> None:
    goes_on = threading.Event()
    server.run = lambda frames: goes_on.wait(20) and frames
    with pytest.raises(SilentError, match="DEADLINE_EXCEEDED"):
        ask(client, timeout_s=0.5)
    goes_on.set()


def test_over_tls_the_certificate_is_looked_at(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    issued = ca.issue_cert("localhost")
    key, chain = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    for name, authority in (("ca.pem", ca), ("other.pem", other)):
        authority.cert_pem.write_to_path(tmp_path / name)
    with oip_server(grpc.ssl_server_credentials([(key, chain)])) as server:
        good, bad = (Client(server.url, tmp_path / name) for name in ("ca.pem", "other.pem"))
        assert good.server_is_ready(20.0)
        assert np.array_equal(ask(good), FRAMES.astype(np.float32))
        with pytest.raises(ModelServerDownError, match="UNAVAILABLE"):
            bad.server_is_ready(20.0)
        good.close()
        bad.close()
