"""A child process that is kept alive.

Supervisor and child are tied by one pipe. The child says on it when it is ready; the supervisor
closes it to say stop, and the kernel closes it when the supervisor dies. (A shared
`multiprocessing.Event` would not do: a process killed while it waits on one hangs whoever sets it.)
"""

import pkgutil
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeAlias

from dicom_node import log, metrics
from dicom_node.config import Config
from dicom_node.errors import NodeError
from dicom_node.metrics import Page

#: A child that dies is started again after so long, doubled each time up to the limit.
RESTART_S = 1.0
LONGEST_RESTART_S = 30.0

_Line: TypeAlias = "Connection[Any, Any]"


class Child:
    """One child process that is kept alive.

    Parameters
    ----------
    context : SpawnContext
        Children share nothing with the supervisor but the configuration, a pipe and their page.
    name : str
        For the log and the process list.
    target : str
        What the child runs, "module:function", imported there and not here: a function of the
        configuration, an event to set when it is ready, and an event that ends it.
    config : Config
        Handed to the target.
    *arguments : object
        Handed to the target as well.

    Attributes
    ----------
    page : Page
        What the child counts; it outlives the child.
    is_ready : bool
        Whether the child runs and said that it is ready, as of the last `watch`.
    restarts : int
        How often it was started again.
    """

    def __init__(
        self, context: SpawnContext, name: str, target: str, config: Config, *arguments: object
    ) -> None:
        destinations = [destination.name for destination in config.destinations]
        self.name = name
        self.page = Page(destinations, context.RawArray("d", metrics.size(destinations)))
        self.is_ready = False
        self.restarts = 0
        self._context = context
        self._target = target
        self._config = config
        self._arguments = arguments
        self._process: SpawnProcess | None = None
        self._line: _Line | None = None
        self._restart_s = RESTART_S
        self._started_at = 0.0
        self._restart_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that was started last."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process."""
        self._line, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_child_main,
            args=(self._target, self._config, self.page, theirs, *self._arguments),
            name=self.name,
        )
        self._process.start()
        theirs.close()
        self._started_at = time.monotonic()
        self._restart_at = None

    def watch(self) -> bool:
        """Note what became of the process; start it again when it ended, after a growing pause.

        For one thread, which calls it again and again.

        Returns
        -------
        bool
            Whether it was found dead by this call and not before.
        """
        if self._process is None:
            return False
        if self._process.is_alive():
            self._listen()
        elif self._restart_at is None:
            self._note_death(self._process.exitcode)
            return True
        elif time.monotonic() >= self._restart_at:
            self.restarts += 1
            self.start()
        return False

    def _listen(self) -> None:
        if not self.is_ready and self._line is not None and self._line.poll():
            with suppress(EOFError):
                self.is_ready = bool(self._line.recv_bytes())

    def _note_death(self, status: int | None) -> None:
        self.is_ready = False
        self.page.forget_gauges()
        now = time.monotonic()
        if now - self._started_at > LONGEST_RESTART_S:
            self._restart_s = RESTART_S
        self._restart_at = now + self._restart_s
        log.get("node").error(
            "child ended, starting it again",
            process=self.name,
            status=status,
            seconds=self._restart_s,
        )
        self._restart_s = min(2 * self._restart_s, LONGEST_RESTART_S)

    def ask_to_stop(self) -> None:
        """Let the child end what it does."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def end(self, deadline: float) -> None:
        """Wait for the process until `deadline` (monotonic seconds), then kill it."""
        if self._process is None:
            return
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            log.get("node").warning("child did not stop in time, killed", process=self.name)
            self._process.kill()
            self._process.join()


class _Ready(threading.Event):
    """Tells the supervisor when it is set."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def set(self) -> None:
        super().set()
        with suppress(BrokenPipeError):
            self._line.send_bytes(b"ready")


def _child_main(target: str, config: Config, page: Page, line: _Line, *arguments: object) -> None:
    # Ctrl-C and systemd signal the whole group; the supervisor alone decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.configure()
    metrics.use(page)
    stop = threading.Event()
    threading.Thread(target=_await_stop, args=(line, stop), daemon=True).start()
    try:
        pkgutil.resolve_name(target)(config, _Ready(line), stop, *arguments)
    except Exception as exc:  # noqa: BLE001 - a traceback may quote a data set; the log must not
        # the node's own errors name no patient, and say the cure
        told = {"reason": str(exc)} if isinstance(exc, NodeError) else {}
        cause, where = type(exc).__name__, log.place_of(exc)
        log.get("node").error("child failed", cause=cause, where=where, **told)
        raise SystemExit(1) from None


def _await_stop(line: _Line, stop: threading.Event) -> None:
    line.poll(None)  # returns when the other end is closed, on purpose or by a death
    stop.set()
