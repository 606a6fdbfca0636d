"""What may cost more on a full data folder than on an empty one."""

import itertools
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import BinaryIO

import psutil

from dicom_node.inbox import Disk, Inbox
from dicom_node.index import Index
from dicom_node.register import register_waiting
from tests.benchmarks.loads import Load
from tests.benchmarks.populate import image
from tests.benchmarks.processes import freeze, thaw
from tests.benchmarks.receivers import Running, node
from tests.benchmarks.sender import Order, Senders

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_REGISTERED_S = 120.0
#: nobody else numbers images so high
_FIRST_NEW = 10**9


class _Unsynced(Disk):
    """Makes files quickly: how they arrive is not measured with it."""

    def sync(self, file: BinaryIO) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


def registering(folders: Sequence[Path], *, files: int, rounds: int) -> list[list[float]]:
    """Return small files/s that are registered in each data folder, round by round.

    The folders take turns within a round, batch by batch.
    """
    rates: list[list[float]] = [[] for _ in folders]
    disk = _Unsynced()
    opened = [
        (Inbox(f / "inbox", min_free_bytes=0, disk=disk), Index(f / "index.db")) for f in folders
    ]
    number = _FIRST_NEW + time.time_ns() // 1_000_000
    for _ in range(rounds):
        spent = [0.0 for _ in folders]
        for turn, (inbox, _) in enumerate(opened):
            for n in range(files):
                part = inbox.create()
                part.write(image(number + turn * files + n))
                part.commit()
        number += files * len(folders)
        for batch in range(0, files, 256):
            for turn in _turns(len(opened), batch // 256):
                inbox, index = opened[turn]
                start = time.perf_counter()
                register_waiting(inbox, index, now=datetime.now(UTC))
                spent[turn] += time.perf_counter() - start
        for turn, seconds in enumerate(spent):
            rates[turn].append(files / seconds)
    for _, index in opened:
        index.close()
    return rates


def receiving(
    folders: Sequence[Path], loads: Sequence[Load], *, rounds: int, seconds: float
) -> dict[str, list[list[float]]]:
    """Return by load what a node on each folder receives, round by round; they take turns."""
    rates: dict[str, list[list[float]]] = {load.name: [[] for _ in folders] for load in loads}
    tag = time.time_ns() // 1_000_000_000
    associations = max(load.associations for load in loads)
    with Senders(associations) as senders, _frozen_nodes(folders) as nodes:
        for load, number in itertools.product(loads, range(rounds)):
            for turn in _turns(len(nodes), number):
                tag += 1
                thaw(nodes[turn])
                rate = _rate(nodes[turn], senders, load, seconds=seconds, tag=tag)
                rates[load.name][turn].append(rate)
                freeze(nodes[turn])
    return rates


def yielding(
    folder: Path, load: Load, niceness: Sequence[int], *, rounds: int, seconds: float
) -> list[list[float]]:
    """Return what one node receives while its worker runs at each niceness, round by round."""
    rates: list[list[float]] = [[] for _ in niceness]
    tag = time.time_ns() // 1_000_000_000
    with Senders(load.associations) as senders, node(folder) as running:
        for number in range(rounds):
            for turn in _turns(len(niceness), number):
                tag += 1
                _renice(_worker(running), niceness[turn])
                rates[turn].append(_rate(running, senders, load, seconds=seconds, tag=tag))
    return rates


def start_s(folder: Path, *, is_cold: bool) -> float | None:
    """Return the seconds until a node on a folder is ready; None where caches cannot be dropped."""
    if is_cold and not _drop_caches():
        return None
    start = time.perf_counter()
    with node(folder):
        return time.perf_counter() - start


def status_s(folder: Path, *, times: int) -> tuple[list[float], float]:
    """Return the seconds of each ``dicom-node status``, and the CPU time of the median one."""
    command = [sys.executable, "-m", "dicom_node", "status", "-c", str(folder / "node.yaml")]
    seconds, cpu_s = [], []
    for _ in range(times):
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
        after = os.times()
        cpu_s.append(sum(after[2:4]) - sum(before[2:4]))
    return seconds, median(cpu_s)


def _turns(count: int, number: int) -> list[int]:
    """Return who is measured in which order: the other way round in every second round."""
    return list(range(count))[:: -1 if number % 2 else 1]


@contextmanager
def _frozen_nodes(folders: Sequence[Path]) -> Iterator[list[Running]]:
    if not folders:
        yield []
        return
    with node(folders[0]) as first:
        freeze(first)
        try:
            with _frozen_nodes(folders[1:]) as others:
                yield [first, *others]
        finally:
            thaw(first)


def _rate(running: Running, senders: Senders, load: Load, *, seconds: float, tag: int) -> float:
    """Send a load, wait until all of it is registered, and return its rate of acknowledgement."""
    senders.prepare(load)
    orders = [
        Order(
            port=running.port,
            called_ae_title=running.ae_title,
            load=load,
            objects=load.objects // load.associations,
            seconds=seconds,
            tag=tag,
            association=number,
        )
        for number in range(load.associations)
    ]
    before = _registered(running)
    os.sync()
    sent = senders.send(orders)
    faults = [one.fault for one in sent if one.fault]
    wanted = before + sum(len(one.acknowledged) for one in sent)
    deadline = time.monotonic() + _REGISTERED_S
    while (found := _registered(running)) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if faults or found != wanted:
        raise RuntimeError(f"{found - wanted} instances were not registered: {faults}")
    elapsed = max(one.ended for one in sent) - min(one.started for one in sent)
    return load.rate(sum(one.objects for one in sent), elapsed)


def _registered(running: Running) -> int:
    assert running.kept is not None
    with closing(sqlite3.connect(running.kept.parent / "index.db", timeout=30)) as connection:
        return int(connection.execute("SELECT instances FROM tally").fetchone()[0])


def _worker(running: Running) -> psutil.Process:
    return next(
        child
        for child in running.process.children()
        if any(file.path == running.worker_lock for file in child.open_files())
    )


def _renice(worker: psutil.Process, niceness: int) -> None:
    # in Linux every thread has its own
    for thread in worker.threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, niceness)


def _drop_caches() -> bool:
    os.sync()
    try:
        _DROP_CACHES.write_text("3")
    except OSError:
        return False
    return True
