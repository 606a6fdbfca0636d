"""The supervisor: one worker, the receivers, and signal handlers that only set flags."""

import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from dicom_node import log, metrics
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.inbox import Inbox
from dicom_node.listeners import Listener, close
from dicom_node.metrics import Page
from dicom_node.node.accounts import settle
from dicom_node.node.children import Child
from dicom_node.node.layout import open_inbox
from dicom_node.node.locks import owned
from dicom_node.node.page import page_process
from dicom_node.node.ports import opened
from dicom_node.notices import open_notices

#: By name: the supervisor loads neither of them.
WORKER: Final = "dicom_node.node.worker:run_worker"
RECEIVER: Final = "dicom_node.node.receiver:run"
#: Children get so much longer than `node.drain_s` before they are killed; the worker's own limit
#: for running stages is 10 s.
GRACE_S: Final = 15.0


def serve(config: Config) -> None:
    """Run the node until SIGTERM or SIGINT.

    Raises
    ------
    ConfigError
        When the data folder is in use, cannot be made, or a port is taken.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with owned(config.node.data), opened(config.node, stop) as listeners:
        if stop.is_set():
            return
        inbox = open_inbox(config)
        own = Page([destination.name for destination in config.destinations])
        counts = {
            "leftovers_swept": inbox.sweep(),
            "notices_swept": open_notices(inbox).sweep(),
            "files_waiting": len(inbox.waiting()),
        }
        own.add(metrics.ADOPTED, by=counts["files_waiting"])
        log.get("node").info("starting", pid=os.getpid(), counts=counts)
        _supervise(config, inbox, own, listeners, stop)
    log.get("node").info("stopped", pid=os.getpid())


def _supervise(
    config: Config,
    inbox: Inbox,
    own: Page,
    listeners: list[Listener],
    stop: threading.Event,
) -> None:
    context = mp.get_context("spawn")
    worker = Child(context, "worker", WORKER, config)
    receivers = [
        Child(context, f"receiver-{number}", RECEIVER, config, *listeners)
        for number in range(config.node.processes)
    ]
    children = [worker, *receivers]
    with (
        page_process(config, context, stop) as page,
        _watched(config, inbox, own, children, page),
    ):
        for child in (*children, *page):
            child.start()
        announced = False
        while not stop.wait(0.1):
            for child in (worker, *page):
                child.watch()
            if [receiver for receiver in receivers if receiver.watch()]:
                settle(inbox, own, [receiver.page for receiver in receivers])
            if not announced and all(child.is_ready for child in children):
                _announce(config)
                announced = True
        close(listeners)  # who calls from now on is refused, and not kept waiting
        _stop([*children, *page], config.node.drain_s + GRACE_S)


def _stop(children: list[Child], within_s: float) -> None:
    log.get("node").info("stopping", pid=os.getpid(), seconds=within_s)
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + within_s
    for child in children:
        child.end(deadline)


@contextmanager
def _watched(
    config: Config, inbox: Inbox, own: Page, children: list[Child], page: list[Child]
) -> Iterator[None]:
    """Serve metrics and health, where the site wants them; the first child is the worker."""
    if config.web is None:
        yield
        return
    # an HTTP server is not loaded where none is wanted
    from dicom_node.node import health, readings  # noqa: PLC0415
    from dicom_node.web import Watch, registry, served  # noqa: PLC0415

    bind, port = config.web.bind, config.web.port
    worker, *receivers = children
    watch = Watch(health.looks(config, inbox, worker, receivers))
    everyone = [*children, *page]
    numbers = registry(
        [own, *(child.page for child in everyone)],
        readings.readings(inbox, everyone, config.node.tls),
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(served(bind, port, numbers, watch.health))
        except OSError as exc:
            raise ConfigError(
                f"web.port: {bind}:{port} cannot be used ({exc.strerror}); "
                "choose a free port, or end what listens there"
            ) from None
        log.get("node").info("watched", host=bind, port=port)
        yield


def _announce(config: Config) -> None:
    node = config.node
    log.get("node").info(
        "ready", ae_title=node.ae_title, host=node.bind, port=node.port, process=node.processes
    )
