import socket
import threading
import time
from collections.abc import Callable

import pytest

from dicom_node.config import NodeSettings
from dicom_node.errors import ConfigError
from dicom_node.node.ports import opened


def test_an_address_of_another_machine_is_named_at_once() -> None:
    settings = NodeSettings(bind="192.0.2.1", drain_s=60)  # RFC 5737: nobody has it
    with (
        pytest.raises(ConfigError, match=r"node\.bind: 192\.0\.2\.1:11112"),
        opened(settings, threading.Event()),
    ):
        pass


def test_a_port_that_is_let_go_is_taken(free_port: Callable[[], int]) -> None:
    taken = socket.create_server(("127.0.0.1", free_port()))
    settings = NodeSettings(port=taken.getsockname()[1], drain_s=60)
    threading.Timer(0.5, taken.close).start()
    with opened(settings, threading.Event()) as listeners:
        assert [listener.port for listener in listeners] == [settings.port]


def test_a_stop_ends_the_wait_for_a_port(free_port: Callable[[], int]) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        settings = NodeSettings(port=taken.getsockname()[1], drain_s=60)
        threading.Timer(0.5, stop.set).start()
        start = time.monotonic()
        with opened(settings, stop) as listeners:
            assert listeners == []
        assert time.monotonic() - start < 10
