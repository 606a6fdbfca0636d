"""One load into one receiver: how fast, at what cost, and whether all of it is there."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.loads import LOADS, Load
from tests.benchmarks.processes import cpu_s, peak_memory, settle
from tests.benchmarks.receivers import Running
from tests.benchmarks.sender import Order, Senders, Sent, uid_stem

#: A file's UID stands within its first bytes: preamble, File Meta Information, the first elements.
_HEAD_BYTES = 4096
_SETTLE_S = 30.0
#: one study for a harvesting node to work on while it receives
_PRELUDE_OBJECTS = 100
_PRELUDE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was seen."""

    #: acknowledged while the clock ran
    objects: int
    #: all that were acknowledged, the warm-up too
    acknowledged: int
    #: of them, found complete in the receiver's folder; None where it keeps nothing
    kept: int | None
    kept_bytes: int | None
    seconds: float
    #: writing back what the receiver left to the operating system
    sync_s: float
    #: of all its processes, until it was idle again; None where it did not become idle
    cpu_s: float | None
    sender_cpu_s: float
    #: highest resident memory of a process, by role
    peak_bytes: dict[str, int]
    faults: tuple[str, ...]


def measure(
    running: Running,
    senders: Senders,
    load: Load,
    *,
    seconds: float,
    tag: int,
    settles: bool = True,
) -> Measurement:
    """Send a load and look what became of it; the receiver is left running."""
    senders.prepare(load)
    os.sync()
    before_s, wall = cpu_s(running), time.time()
    with peak_memory(running) as peaks:
        sent = senders.send(_orders(running, load, seconds=seconds, tag=tag))
    answered = time.monotonic()
    os.sync()
    sync_s = time.monotonic() - answered
    kept = _kept(running.kept, load, tag, sent, since=wall) if running.kept else None
    is_idle = settles and settle(running, limit_s=_SETTLE_S)
    return Measurement(
        objects=sum(one.objects for one in sent),
        acknowledged=sum(len(one.acknowledged) for one in sent),
        kept=None if kept is None else len(kept),
        kept_bytes=None if kept is None else sum(kept.values()),
        seconds=max(one.ended for one in sent) - min(one.started for one in sent),
        sync_s=sync_s,
        cpu_s=cpu_s(running) - before_s if is_idle else None,
        sender_cpu_s=sum(one.cpu_s for one in sent),
        peak_bytes=peaks,
        faults=tuple(one.fault for one in sent if one.fault),
    )


def begin_harvest(running: Running, senders: Senders, tag: int) -> None:
    """Give a harvesting node something to do, and wait until its store grows."""
    if _store_grows(running, within_s=1.0):
        return
    still = LOADS[0]
    senders.prepare(still)
    order = _orders(running, still, seconds=10.0, tag=tag)[0]
    senders.send([replace(order, objects=_PRELUDE_OBJECTS)])
    _store_grows(running, within_s=_PRELUDE_S)


def harvested(running: Running) -> int:
    """Return how many pictures a node's weak-label store holds."""
    return sum(1 for _ in running.store.rglob("*.png")) if running.store else 0


def _store_grows(running: Running, *, within_s: float) -> bool:
    before, deadline = harvested(running), time.monotonic() + within_s
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if harvested(running) > before:
            return True
    return False


def _orders(running: Running, load: Load, *, seconds: float, tag: int) -> list[Order]:
    return [
        Order(
            port=running.port,
            called_ae_title=running.ae_title,
            load=load,
            objects=max(1, load.objects // load.associations),
            seconds=seconds,
            tag=tag,
            association=number,
        )
        for number in range(load.associations)
    ]


def _kept(folder: Path, load: Load, tag: int, sent: list[Sent], since: float) -> dict[bytes, int]:
    """Return SOP Instance UID and size of the acknowledged objects that lie in the folder."""
    wanted = frozenset[bytes]().union(*(one.acknowledged for one in sent))
    uid = re.compile(re.escape(uid_stem(tag)).encode() + rb"\d{20}")
    found: dict[bytes, int] = {}
    for _ in range(5):  # the node moves files to another folder meanwhile
        for path, size_bytes in _files(folder, load.size_bytes, since):
            try:
                with path.open("rb") as file:
                    match = uid.search(file.read(_HEAD_BYTES))
            except FileNotFoundError:
                continue
            if match and match[0] in wanted:
                found[match[0]] = size_bytes
        if len(found) == len(wanted):
            break
    return found


def _files(folder: Path, at_least_bytes: int, since: float) -> Iterator[tuple[Path, int]]:
    for parent, folders, names in os.walk(folder):
        if "tmp" in folders:
            folders.remove("tmp")  # what lies there is not kept yet
        for name in names:
            path = Path(parent, name)
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if facts.st_size >= at_least_bytes and facts.st_mtime >= since - 2.0:
                yield path, facts.st_size
