"""Let studies go on that were put off because their model server gave no answer."""

import threading
from typing import Final

from dicom_node import log
from dicom_node.errors import TemporaryError
from dicom_node.infer import Models
from dicom_node.jobs import Dispatcher

#: How often the server of a study that was put off is asked whether it is back.
RESUME_S: Final = 15.0


def keep_resuming(
    models: Models, dispatcher: Dispatcher, stop: threading.Event, *, pause_s: float = RESUME_S
) -> None:
    """Run the jobs that were put off again as soon as their models answer, until `stop` is set.

    Parameters
    ----------
    models : Models
        Knows the server.
    dispatcher : Dispatcher
        Has the jobs; nothing about them is kept here, so a restart changes nothing.
    stop : threading.Event
    pause_s : float
        Between two looks.
    """
    while not stop.wait(pause_s):
        try:
            _resume(models, dispatcher)
        except TemporaryError as exc:
            log.get("node").error("studies stay put off", reason=str(exc))


def _resume(models: Models, dispatcher: Dispatcher) -> None:
    waiting = [job for job in dispatcher.failed() if job.is_put_off]
    if not waiting or models.fault():
        return
    log.get("node").info("model server answers, jobs go on", counts={"jobs": len(waiting)})
    for job in waiting:
        dispatcher.retry(job)
