"""A small HTTP server that a hostile client cannot tie up.

Threads are bounded, and every request has a deadline from its first byte to its last, however
slowly they come: the connection is closed under whoever is late.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from dicom_node.web.health import Health

#: A scrape of a busy node takes some milliseconds.
REQUEST_S: Final = 5.0
#: One Prometheus and one load balancer need two.
THREADS: Final = 8
#: How often the server looks for late requests and for its own end.
_POLL_S: Final = 0.25


@contextmanager
def served(
    bind: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]
) -> Iterator[None]:
    """Answer ``/metrics`` and ``/healthz`` in threads of this process.

    Parameters
    ----------
    bind : str
        An address, IPv4 or IPv6.
    port : int
    registry : CollectorRegistry
        From `dicom_node.web.exposition.registry`.
    health : callable
        Asked at each request of ``/healthz``; must be safe to call from several threads.

    Raises
    ------
    OSError
        When the port cannot be bound.
    """
    with _Server(bind, port, _pages(registry, health)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="web")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.close_all()


def _pages(registry: CollectorRegistry, health: Callable[[], Health]) -> WSGIApplication:
    metrics: Any = make_wsgi_app(registry, disable_compression=True)

    def healthz(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        found = health()
        status = "200 OK" if found.healthy else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(found.as_dict(), indent=2).encode() + b"\n"]

    def not_found(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"there are /metrics and /healthz\n"]

    routes: dict[str, Any] = {"/metrics": metrics, "/healthz": healthz}
    return lambda environ, start_response: routes.get(environ["PATH_INFO"], not_found)(
        environ, start_response
    )


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, *_: object) -> None:
        """Say nothing: a request's line is a stranger's text."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, bind: str, port: int, application: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((bind, port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        # WSGIServer would look the address up in the name service
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= THREADS:
                return False
            self._open[request] = time.monotonic() + REQUEST_S
            return True

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._lock:
            for request, deadline in self._open.items():
                if now > deadline:
                    _break_off(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client went away, or was shown the door."""

    def close_all(self) -> None:
        with self._lock:
            for request in self._open:
                _break_off(request)


def _break_off(request: socket.socket) -> None:
    with suppress(OSError):  # the client was faster
        request.shutdown(socket.SHUT_RDWR)
