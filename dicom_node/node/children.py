"""A child process that is kept alive."""

import multiprocessing as mp
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.synchronize import Event

from dicom_node import log
from dicom_node.config import Config

#: A child that dies is started again after so long, doubled each time up to the limit.
RESTART_S = 1.0
LONGEST_RESTART_S = 30.0

#: What a child runs: (configuration, set when ready, ends when set).
Target = Callable[[Config, Event, Event], None]


class Child:
    """One child process that is kept alive.

    Parameters
    ----------
    context : SpawnContext
        Children share nothing with the supervisor but the configuration and two events.
    name : str
        For the log and the process list.
    target : Target
        Importable by name, as spawn needs it.
    config : Config
        Handed to the target.
    stop : Event
        Set when the child shall end.
    """

    def __init__(
        self,
        context: SpawnContext,
        name: str,
        target: Target,
        config: Config,
        stop: Event,
    ) -> None:
        self.ready = context.Event()
        self._context = context
        self._arguments = (target, config, self.ready, stop)
        self._name = name
        self._process: SpawnProcess | None = None
        self._restart_s = RESTART_S
        self._started_at = 0.0
        self._restart_at: float | None = None

    def start(self) -> None:
        """Start the process."""
        self._process = self._context.Process(
            target=_child_main, args=self._arguments, name=self._name
        )
        self._process.start()
        self._started_at = time.monotonic()
        self._restart_at = None

    def revive(self) -> None:
        """Start the process again when it ended, after a growing pause."""
        now = time.monotonic()
        if self._process is None or self._process.is_alive():
            return
        if self._restart_at is None:
            if now - self._started_at > LONGEST_RESTART_S:
                self._restart_s = RESTART_S
            self._restart_at = now + self._restart_s
            log.get("node").error(
                "child ended, starting it again",
                process=self._name,
                status=self._process.exitcode,
                seconds=self._restart_s,
            )
            self._restart_s = min(2 * self._restart_s, LONGEST_RESTART_S)
        elif now >= self._restart_at:
            self.start()

    def end(self, deadline: float) -> None:
        """Wait for the process until `deadline` (monotonic seconds), then kill it."""
        if self._process is None:
            return
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            log.get("node").warning("child did not stop in time, killed", process=self._name)
            self._process.kill()
            self._process.join()


def _child_main(target: Target, config: Config, ready: Event, stop: Event) -> None:
    # Ctrl-C and systemd signal the whole group; the supervisor alone decides and says so by `stop`
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.configure()
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    target(config, ready, stop)


def _stop_with_parent(stop: Event) -> None:
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        stop.set()
