"""What a receiver process runs; it imports what receiving needs and no more."""

import threading

from dicom_node.config import Config
from dicom_node.listeners import Listener
from dicom_node.node.layout import open_inbox
from dicom_node.receive import run_receiver


def run(
    config: Config, ready: threading.Event, stop: threading.Event, *listeners: Listener
) -> None:
    """Receive on the supervisor's sockets until `stop` is set."""
    run_receiver(config.node, open_inbox(config), listeners, ready=ready, stop=stop)
