"""Processes of a receiver: frozen while others are measured, and what they use."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.benchmarks.receivers import Running

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError)
_SAMPLE_S = 0.3


def tree(running: Running) -> list[psutil.Process]:
    """Return the processes that count, the first started one first."""
    with suppress(*_GONE):
        found = [running.process, *running.process.children(recursive=True)]
        return [process for process in found if process not in running.held]
    return []


def freeze(running: Running) -> None:
    """Stop a receiver, so that it takes nothing from the one that is measured."""
    for process in tree(running):
        with suppress(*_GONE):
            process.suspend()


def thaw(running: Running) -> None:
    """Let a frozen receiver go on."""
    for process in reversed(tree(running)):
        with suppress(*_GONE):
            process.resume()


def cpu_s(running: Running) -> float:
    """Return the CPU time of all processes that are or were."""
    total = 0.0
    for process in tree(running):
        with suppress(*_GONE):
            # what a parent has waited for counts there, the others stand in the tree
            total += sum(process.cpu_times()[:4])
    return total


def busy_share(running: Running, seconds: float) -> float:
    """Return how much of a core a receiver uses now."""
    before = cpu_s(running)
    time.sleep(seconds)
    return (cpu_s(running) - before) / seconds


def settle(running: Running, *, limit_s: float) -> bool:
    """Wait until a receiver has done what its objects made it do; False when it goes on."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if busy_share(running, 0.3) < 0.08:
            return True
    return False


@contextmanager
def peak_memory(running: Running) -> Iterator[dict[str, int]]:
    """Fill a dict with the highest resident bytes of a process, by its role."""
    peaks: dict[str, int] = {}
    is_over = threading.Event()
    before = [process for process in tree(running) if _forget_peak(process)]

    def sample() -> None:
        while not is_over.wait(_SAMPLE_S):
            for process in tree(running):
                with suppress(*_GONE):
                    _raise(peaks, role(process, running), process.memory_info().rss)

    # what began and ended in between is known by samples alone
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        is_over.set()
        sampler.join()
        for process in before:
            with suppress(*_GONE):
                _raise(peaks, role(process, running), _peak(process))


def role(process: psutil.Process, running: Running) -> str:
    """Return what a process of a receiver is there for."""
    if running.worker_lock is None:
        return "receiver"
    known = running.roles
    if process.pid not in known:
        known[process.pid] = _look_up_role(process, running)
    return known[process.pid]


def _look_up_role(process: psutil.Process, running: Running) -> str:
    if process == running.process:
        return "other"  # the supervisor keeps the port for its children
    if any(one.laddr.port == running.port for one in process.net_connections(kind="tcp")):
        return "receiver"
    is_worker = any(file.path == running.worker_lock for file in process.open_files())
    return "worker" if is_worker else "other"


def _raise(peaks: dict[str, int], name: str, value: int) -> None:
    peaks[name] = max(value, peaks.get(name, 0))


def _forget_peak(process: psutil.Process) -> bool:
    """Let Linux count a process's highest resident memory anew."""
    if sys.platform != "linux":
        return False
    with suppress(OSError):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        return True
    return False


def _peak(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
