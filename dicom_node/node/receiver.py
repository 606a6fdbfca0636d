"""What a receiver process runs; it imports what receiving needs and no more."""

import threading

from dicom_node.config import Config
from dicom_node.node.layout import open_inbox
from dicom_node.receive import run_receiver


def run(config: Config, ready: threading.Event, stop: threading.Event) -> None:
    """Receive until `stop` is set."""
    run_receiver(config.node, open_inbox(config), ready=ready, stop=stop)
