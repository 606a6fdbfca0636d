"""The label map behind the page: opened when something was harvested, and brought into the store.

A decision is durable when it is noted. Bringing it into a large store may take a while: that goes
on behind the page, and what was cut short is done when the page is started again.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunningError
from contextlib import ExitStack, suppress
from threading import Lock
from typing import Final

from starlette.requests import Request

from dicom_node import log
from dicom_node.config import Config
from dicom_node.errors import TemporaryError
from dicom_node.harvest.desk import LabelDesk, is_harvested, open_desk

#: Who decides waits for the store so long.
PATIENCE_S: Final = 2.0


class LabelDesks:
    """The one `LabelDesk` of the page.

    Parameters
    ----------
    config : Config
        Of the node.
    """

    def __init__(self, config: Config) -> None:
        self._settings, self._data = config.harvest, config.node.data
        self._lock = Lock()
        self._stack = ExitStack()
        self._desk: LabelDesk | None = None
        # one at a time, in the order of the decisions
        self._worker = ThreadPoolExecutor(1, "labels")

    def desk(self) -> LabelDesk | None:
        """Return the desk, None as long as nothing was harvested.

        Raises
        ------
        ConfigError
            When the site's tables or the pseudonym key cannot be used.
        """
        with self._lock:
            if self._desk is None and is_harvested(self._data):
                opened = open_desk(self._settings, data=self._data)
                self._desk = self._stack.enter_context(opened)
                self._worker.submit(self._apply, self._desk)
            return self._desk

    def apply(self, desk: LabelDesk, *, patience_s: float = PATIENCE_S) -> None:
        """Bring the store up to what was decided; returns when it is, or after a while."""
        done: Future[None] = self._worker.submit(self._apply, desk)
        with suppress(StillRunningError):
            done.result(patience_s)

    def close(self) -> None:
        """End the work on the store, and close the files."""
        self._worker.shutdown()
        self._stack.close()

    @staticmethod
    def _apply(desk: LabelDesk) -> None:
        try:
            desk.apply_rest()
        except TemporaryError as exc:  # the next decision tries again, or the next start
            log.get("page").warning("decision not applied", reason=str(exc))


def desks_of(request: Request) -> LabelDesks:
    """Return the label map of the page that answers a request."""
    found = request.app.state.label_desks
    assert isinstance(found, LabelDesks)  # noqa: S101 - for the reader and the type checker
    return found


def desk_in(request: Request) -> LabelDesk | None:
    """Return the desk of the page that answers a request, None while nothing was harvested."""
    return desks_of(request).desk()
