"""The supervisor: one worker, the receivers, and signal handlers that only set flags."""

import multiprocessing as mp
import os
import signal
import threading
import time
from typing import Final

from dicom_node import log
from dicom_node.config import Config
from dicom_node.node.children import Child
from dicom_node.node.layout import open_inbox
from dicom_node.node.locks import owned, wait_for_port

#: By name: the supervisor loads neither of them.
WORKER: Final = "dicom_node.node.worker:run_worker"
RECEIVER: Final = "dicom_node.node.receiver:run"
#: Time that children get to finish what they do before they are killed.
DRAIN_S = 20.0


def serve(config: Config) -> None:
    """Run the node until SIGTERM or SIGINT.

    Raises
    ------
    ConfigError
        When the data folder is in use, cannot be made, or the port is taken.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with owned(config.node.data):
        wait_for_port(config.node)
        leftovers = open_inbox(config).sweep()
        log.get("node").info("starting", pid=os.getpid(), counts={"leftovers_swept": leftovers})
        _supervise(config, stop)
    log.get("node").info("stopped", pid=os.getpid())


def _supervise(config: Config, stop: threading.Event) -> None:
    context = mp.get_context("spawn")
    children = [Child(context, "worker", WORKER, config)]
    children += [
        Child(context, f"receiver-{number}", RECEIVER, config)
        for number in range(config.node.processes)
    ]
    for child in children:
        child.start()
    announced = False
    while not stop.wait(0.1):
        for child in children:
            child.revive()
        if not announced and all(child.is_ready for child in children):
            _announce(config)
            announced = True
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + DRAIN_S
    for child in children:
        child.end(deadline)


def _announce(config: Config) -> None:
    node = config.node
    log.get("node").info(
        "ready", ae_title=node.ae_title, host=node.bind, port=node.port, process=node.processes
    )
