"""What the page's process runs."""

import asyncio
import logging
import socket
import threading
from typing import Any, Final

import uvicorn

from dicom_node import log
from dicom_node.certificates import server_context
from dicom_node.config import Config, TlsSettings
from dicom_node.page.app import make_app
from dicom_node.page.desk import Desk
from dicom_node.page.login import FIRST_USER
from dicom_node.page.patience import PatientProtocol
from dicom_node.page_settings import PageSettings

#: The page is for people, not for machines: one more takes the place of one that only waits, or
#: gets 503 where all are answered.
MOST_CONNECTIONS: Final = 100
#: On stop, requests that are being answered get so long.
_FAREWELL_S: Final = 3
#: Their lines would quote addresses, and tracebacks data sets.
_SILENCED: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "starlette")


def run(
    config: Config, ready: threading.Event, stop: threading.Event, listener: socket.socket
) -> None:
    """Serve the page on the supervisor's socket until `stop` is set."""
    for name in _SILENCED:
        library = logging.getLogger(name)
        library.handlers = [logging.NullHandler()]
        library.propagate = False
    app = make_app(config)
    _say_who_may_come(app.state.desk)
    server = _Server(_settings(app, config.page or PageSettings()), ready)
    # in a thread of its own: in the main one it would take over the signals
    thread = threading.Thread(target=_serve, args=(server, listener), name="page")
    thread.start()
    while thread.is_alive() and not stop.wait(0.2):
        pass
    server.should_exit = True
    thread.join()


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()
        log.get("page").info("page ready")


def _settings(app: Any, page: PageSettings) -> uvicorn.Config:
    tls: dict[str, Any] = {}
    if page.tls is not None:
        files = TlsSettings(certificate=page.tls.certificate, key=page.tls.key)
        context = server_context(files, where="page.tls")
        tls["ssl_context_factory"] = lambda *_: context
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `access.address_of` believes the named proxies alone
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_FAREWELL_S,
        **tls,
    )


def _say_who_may_come(desk: Desk) -> None:
    if not desk.users.all() and desk.settings.trusted_proxy is None:
        log.get("page").warning("nobody can log in yet", what=FIRST_USER)
