"""What children of the supervisor run in tests."""

import threading

from dicom_node.config import Config


def idle(config: Config, ready: threading.Event, stop: threading.Event) -> None:
    """Be ready, do nothing, end when told."""
    ready.set()
    stop.wait()


def broken(config: Config, ready: threading.Event, stop: threading.Event) -> None:
    """Fail at the start, with a message that must not be logged."""
    raise ValueError("Secret^Name")
