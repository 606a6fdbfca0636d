"""Ask each destination what it accepts, at the start and again from time to time."""

import threading
import time
from datetime import UTC, datetime
from typing import Final

from dicom_node import log
from dicom_node.config import Config, Destination
from dicom_node.deliver import probe
from dicom_node.errors import DatabaseDownError
from dicom_node.outbox import Outbox

#: A PACS learns new classes when somebody configures it.
ASK_S: Final = 3600.0
#: One that did not answer is asked sooner: its objects may be written in vain.
ASK_AGAIN_S: Final = 60.0


def keep_asked(
    config: Config,
    outbox: Outbox,
    stop: threading.Event,
    *,
    ask_s: float = ASK_S,
    ask_again_s: float = ASK_AGAIN_S,
) -> None:
    """Ask at once, and again after `ask_s`, until `stop` is set.

    Parameters
    ----------
    config : Config
        Names the destinations; those that can be are asked.
    outbox : Outbox
        Keeps the answers.
    stop : threading.Event
    ask_s : float
        Pause after an answer.
    ask_again_s : float
        Pause after none.
    """
    asked = [one for one in config.destinations if isinstance(one, Destination)]
    due_s = dict.fromkeys((one.name for one in asked), time.monotonic())
    while asked and not stop.wait(max(0.0, min(due_s.values()) - time.monotonic())):
        destination = min(asked, key=lambda one: due_s[one.name])
        answers = probe(destination, calling_ae_title=config.node.ae_title)
        try:
            if answers:
                outbox.capabilities.note(
                    destination.name, destination.address, answers, now=datetime.now(UTC)
                )
        except DatabaseDownError as exc:
            answers = {}
            log.get("node").error("answer not kept", reason=str(exc))
        pause_s = ask_s if answers else ask_again_s
        due_s[destination.name] = time.monotonic() + pause_s
