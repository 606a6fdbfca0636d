"""Correct what the node believes that the inbox holds, once at the start and while it is full."""

import threading
from typing import Final

from dicom_node import log
from dicom_node.inbox import Inbox

#: Who deletes files to make room waits no longer than this. Counting a million files takes some
#: seconds of the disk, too much to be done at each sweep.
LOOK_S: Final = 60.0
#: With less than this left a long cine may find no room where a still does; the inbox is as good
#: as full.
MARGIN_BYTES: Final = 1 << 30


def keep_counted(inbox: Inbox, stop: threading.Event, *, every_s: float = LOOK_S) -> None:
    """Count at once, and again whenever the quota leaves no room, until `stop` is set.

    Files that somebody deletes by hand are no longer held, but nobody tells the node. While there
    is room a look costs the reading of one number.
    """
    held_bytes: int | None = None
    while True:
        try:
            if held_bytes is None or _is_full(inbox):
                held_bytes = _count(inbox, held_bytes)
        except OSError as exc:
            # a folder may go while it is read; the next look tries again
            log.get("node").error("inbox not counted", cause=type(exc).__name__)
        if stop.wait(every_s):
            return


def _is_full(inbox: Inbox) -> bool:
    left_bytes = inbox.quota_left_bytes
    return left_bytes is not None and left_bytes < MARGIN_BYTES


def _count(inbox: Inbox, known_bytes: int | None) -> int:
    held_bytes = inbox.recount()
    if held_bytes != known_bytes:
        log.get("node").info("inbox counted", bytes=held_bytes)
    return held_bytes
