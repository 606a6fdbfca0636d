"""The page's process: it shares nothing with the receivers but the supervisor that starts it."""

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from typing import Final

from dicom_node import log
from dicom_node.certificates import server_context
from dicom_node.config import Config, TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.listeners import open_port
from dicom_node.node.children import Child
from dicom_node.page_settings import PageSettings

#: By name: the supervisor does not load it.
PAGE: Final = "dicom_node.page.run:run"
#: The page of a killed supervisor holds its port until its requests are answered.
_WAIT_S: Final = 6.0
_POLL_S: Final = 0.2


@contextmanager
def page_process(
    config: Config, context: SpawnContext, stop: threading.Event
) -> Iterator[list[Child]]:
    """Yield the process that serves the page, not started yet; none where none is wanted.

    Raises
    ------
    ConfigError
        When the port cannot be had, or the TLS files cannot be used.
    """
    page = config.page
    if page is None:
        yield []
        return
    if page.tls is not None:
        files = TlsSettings(certificate=page.tls.certificate, key=page.tls.key)
        server_context(files, where="page.tls")  # said here, where somebody reads it
    # the supervisor's: a page that is started again keeps those who wait
    with _opened(page, stop) as listener:
        yield [Child(context, "page", PAGE, config, listener)]


def _opened(page: PageSettings, stop: threading.Event) -> socket.socket:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return open_port(page.bind, page.port)
        except OSError as exc:
            in_use = exc.errno == errno.EADDRINUSE
            if not in_use or stop.is_set() or time.monotonic() > deadline:
                raise ConfigError(
                    f"page.port: {page.bind}:{page.port} cannot be used ({exc.strerror}); "
                    "choose a free port, or end what listens there"
                ) from None
        log.get("node").info("waiting for the page's port", port=page.port)
        stop.wait(_POLL_S)
