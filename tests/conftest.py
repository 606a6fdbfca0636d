import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.transport import AssociationSocket

from dicom_node import metrics
from dicom_node.demo.ports import free_port as find_port
from tests.support.postgres import postgres
from tests.support.s3 import Storage, environment, storage
from tests.support.turns import mark_beside

REPOSITORY = Path(__file__).resolve().parents[1]

#: What to install when a program is missing (Debian's names).
PACKAGE_OF = {
    "Orthanc": "orthanc orthanc-dicomweb",
    "dcmqrscp": "dcmtk",
    "dcmsend": "dcmtk",
    "storescu": "dcmtk",
    "storescp": "dcmtk",
    "echoscu": "dcmtk",
    "dsrdump": "dcmtk",
    "dsr2html": "dcmtk",
    "dciodvfy": "dicom3tools",
    "chromium": "chromium",
    "strace": "strace",
    "openssl": "openssl",
    "nginx": "nginx-light",
    "systemd-analyze": "systemd",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # before -m is looked at
    mark_beside(items)


@pytest.fixture(scope="session", autouse=True)
def _stand_in_peers_hear_their_answers() -> Iterator[None]:
    """Keep the race that dicom_node/requestor.py tells of out of the peers that tests play."""
    get_msg = DIMSEServiceProvider.get_msg

    def get_msg_if_waited_for(provider: DIMSEServiceProvider, block: bool = False) -> Any:
        if provider.assoc.is_requestor and not block:
            return None, None
        return get_msg(provider, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DIMSEServiceProvider, "get_msg", get_msg_if_waited_for)
        yield


@pytest.fixture(scope="session", autouse=True)
def _refused_sockets_are_closed() -> Iterator[None]:
    """Close what pynetdicom 3.0.4 leaves to the garbage collector, which warns in some later test.

    It shuts a socket down before it closes it, and one that never connected refuses the first.
    """
    shut_down = AssociationSocket._shutdown_socket

    def shut_down_and_close(own: AssociationSocket) -> None:
        shut_down(own)
        if own.socket is not None:
            own.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", shut_down_and_close)
        yield


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Take back what a test, or a program that it called, changed of the logs."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real and malformed files; skips where it is absent."""
    folder = Path(os.environ.get("DICOM_NODE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "dicom_us").is_dir():
        pytest.skip(f"no real files at {folder}: set DICOM_NODE_TEST_DATA")
    return folder


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that gives a free port of the loopback interface."""
    return find_port


@pytest.fixture(scope="session")
def needs_program() -> Callable[[str], str]:
    """Return a function that gives a program's path, or skips and says what to install."""

    def find(name: str) -> str:
        # an active virtual environment hides DCMTK's storescu behind pynetdicom's
        found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin") or shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is missing: apt-get install {PACKAGE_OF[name]}")
        return found

    return find


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Callable[[str], str]]:
    with postgres(find_port()) as create:
        yield create


@pytest.fixture
def postgres_url(_postgres_server: Callable[[str], str]) -> str:
    """Return the URL of a fresh database in a real PostgreSQL; skips where there is none."""
    return _postgres_server(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def _storage_server() -> Iterator[Storage]:
    with storage() as running:
        yield running


@pytest.fixture
def s3(_storage_server: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Return a server that speaks S3, which the environment leads to; skips without moto."""
    for name, value in environment(_storage_server.url).items():
        monkeypatch.setenv(name, value)
    return _storage_server


@pytest.fixture
def counted() -> Iterator[metrics.Page]:
    """Return the page that this test counts on."""
    before, page = metrics.page(), metrics.Page()
    metrics.use(page)
    yield page
    metrics.use(before)
