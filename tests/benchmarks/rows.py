"""What the measurements of a run say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.loads import Load
from tests.benchmarks.measure import Measurement
from tests.benchmarks.receivers import Receiver
from tests.benchmarks.report import Row

#: resident memory of a process, whatever the object's size (bytes)
MEMORY_GOAL_BYTES = 150_000_000
#: what stock pynetdicom was found to take from a sender that leaves Nagle's algorithm on
KNOWN_PYNETDICOM = 22.0

Results = Mapping[tuple[str, str], Sequence[Measurement]]


@dataclass(frozen=True, kw_only=True)
class _Goal:
    load: str
    receiver: str
    against: str
    #: the least ratio; None only tells it
    goal: float | None = None
    #: hold it against a peer that is made to write back what it acknowledged
    is_on_disk: bool = False


_GOALS = (
    _Goal(load="still-1", receiver="node", against="orthanc", goal=2.0),
    _Goal(load="still-4", receiver="node", against="orthanc", goal=2.0),
    _Goal(load="still-4", receiver="node", against="storescp", goal=1.0),
    _Goal(load="naive-1", receiver="node", against="pynetdicom", goal=10.0),
    _Goal(load="still-1", receiver="node", against="storescp"),
    _Goal(load="small-1", receiver="node", against="orthanc"),
    _Goal(load="small-4", receiver="node", against="orthanc"),
    _Goal(load="small-1", receiver="node", against="storescp"),
    _Goal(load="small-4", receiver="node", against="storescp"),
    _Goal(load="small-1", receiver="node", against="pynetdicom"),
    _Goal(load="small-4", receiver="node", against="pynetdicom"),
    _Goal(load="cine-1", receiver="node", against="orthanc"),
    _Goal(load="cine-1", receiver="node", against="storescp"),
    _Goal(load="still-4", receiver="node", against="storescp", is_on_disk=True),
    _Goal(load="small-4", receiver="node", against="storescp", is_on_disk=True),
    _Goal(load="cine-1", receiver="node", against="storescp", is_on_disk=True),
    _Goal(load="still-4", receiver="limit", against="storescp"),
    _Goal(load="small-4", receiver="limit", against="storescp"),
    _Goal(load="still-4", receiver="node-harvest", against="node"),
    _Goal(load="still-4", receiver="node-receivers", against="node"),
)
#: whose share of the physical limit is told
_SHARES = ("node", "node-receivers")
_ROLES = ("receiver", "worker", "other")


def rows(results: Results, loads: Sequence[Load], receivers: Sequence[Receiver]) -> list[Row]:
    """Return all rows: first what is held against something."""
    run = _Run(results, loads, receivers)
    made = [run.held(goal) for goal in _GOALS]
    made.append(run.known_rate())
    shares = [
        _Goal(load=load.name, receiver=name, against="limit")
        for load in loads
        for name in _SHARES
        if not load.is_naive
    ]
    made += [run.held(share) for share in shares]
    made += [run.memory(role) for role in _ROLES]
    made.append(_kept(results))
    found = [row for row in made if row is not None]
    for load in loads:
        for receiver in receivers:
            if load.is_naive and receiver.is_yardstick:
                continue
            found += _values(load, receiver, results.get((load.name, receiver.name), ()))
    return found


class _Run:
    """What was measured, and how it is called."""

    def __init__(
        self, results: Results, loads: Sequence[Load], receivers: Sequence[Receiver]
    ) -> None:
        self._results = results
        self._loads = {load.name: load for load in loads}
        self._receivers = {receiver.name: receiver for receiver in receivers}

    def held(self, goal: _Goal) -> Row | None:
        """Hold one receiver's rates against another's, round by round."""
        load, receiver = self._loads.get(goal.load), self._receivers.get(goal.receiver)
        peer = self._receivers.get(goal.against)
        if load is None or receiver is None or peer is None:
            return None
        ours = self._rates(load, goal.receiver)
        theirs = self._rates(load, goal.against, is_on_disk=goal.is_on_disk)
        ratios = [a / b for a, b in zip(ours, theirs, strict=False) if b]
        ratio = median(ratios) if ratios else None
        name = f"{load.title}: {receiver.title}"
        against = peer.title + (" until on disk" if goal.is_on_disk else "")
        return Row(
            row=name,
            value=median(ours) if ours else None,
            unit=load.unit,
            against=against,
            ratio=ratio,
            goal=goal.goal,
            met=None if ratio is None or goal.goal is None else ratio >= goal.goal,
            low=min(ratios, default=None),
            high=max(ratios, default=None),
            why=None if ratios else peer.missing or "not measured",
        )

    def known_rate(self) -> Row | None:
        """Hold the node against what stock pynetdicom was once found to do."""
        load = self._loads.get("naive-1")
        ours = self._rates(load, "node") if load else []
        if load is None or not ours:
            return None
        return Row(
            row=f"{load.title}: {self._receivers['node'].title}",
            value=median(ours),
            unit=load.unit,
            against=f"pynetdicom's known {KNOWN_PYNETDICOM:g} objects/s",
            ratio=median(ours) / KNOWN_PYNETDICOM,
            goal=10.0,
            met=median(ours) >= 10.0 * KNOWN_PYNETDICOM,
        )

    def memory(self, role: str) -> Row | None:
        """Return the highest resident memory of a node's process in any load."""
        peaks = [
            one.peak_bytes[role]
            for (_, name), found in self._results.items()
            if name in self._receivers and self._receivers[name].is_node
            for one in found
            if role in one.peak_bytes
        ]
        if not peaks:
            return None
        return Row(
            row=f"any load: dicom-node, highest memory of a process ({role})",
            value=max(peaks) / 1e6,
            unit="MB",
            against="at most 150 MB",
            ratio=MEMORY_GOAL_BYTES / max(peaks),
            goal=1.0,
            met=max(peaks) <= MEMORY_GOAL_BYTES,
        )

    def _rates(self, load: Load, receiver: str, *, is_on_disk: bool = False) -> list[float]:
        return _rates(load, self._results.get((load.name, receiver), ()), is_on_disk=is_on_disk)


def _values(load: Load, receiver: Receiver, found: Sequence[Measurement]) -> list[Row]:
    title = f"{load.title} | {receiver.title} |"
    cpu = [
        1e3 * one.cpu_s / one.acknowledged
        for one in found
        if one.cpu_s is not None and one.acknowledged
    ]
    sender = [1e3 * one.sender_cpu_s / one.objects for one in found if one.objects]
    faults = "; ".join(sorted({fault for one in found for fault in one.faults})) or None
    missing = receiver.missing or faults or "not measured"
    busy = missing if not found else "it works on what it received: no end to count to"
    on_disk = _rates(load, found, is_on_disk=True) if receiver.is_yardstick is False else []
    made = [
        _row(f"{title} rate", load.unit, _rates(load, found), missing, note=faults),
        _row(f"{title} CPU", "ms/object", cpu, busy),
        _row(f"{title} CPU of the sender", "ms/object", sender, missing),
    ]
    if on_disk:
        made.insert(1, _row(f"{title} until on disk", load.unit, on_disk, missing))
    for role in _ROLES:
        peaks = [one.peak_bytes[role] / 1e6 for one in found if role in one.peak_bytes]
        made += [_row(f"{title} {role}", "MB", peaks, missing)] if peaks else []
    return made


def _kept(results: Results) -> Row | None:
    looked_at = [
        (name, one) for name, all_ in results.items() for one in all_ if one.kept is not None
    ]
    acknowledged = sum(one.acknowledged for _, one in looked_at)
    kept = sum(one.kept or 0 for _, one in looked_at)
    lossy = {
        f"{receiver} ({load})"
        for (load, receiver), one in looked_at
        if one.kept != one.acknowledged
    }
    if not looked_at:
        return None
    return Row(
        row="all loads, all receivers: acknowledged objects found complete in their folders",
        value=float(kept),
        unit="objects",
        against=f"{acknowledged} acknowledged",
        ratio=kept / acknowledged if acknowledged else None,
        goal=1.0,
        met=not lossy,
        why=f"missing in {', '.join(sorted(lossy))}" if lossy else None,
    )


def _row(
    name: str, unit: str, values: Sequence[float], missing: str, *, note: str | None = None
) -> Row:
    if not values:
        return Row(row=name, value=None, unit=unit, why=missing)
    return Row(
        row=name, value=median(values), unit=unit, low=min(values), high=max(values), why=note
    )


def _rates(load: Load, found: Sequence[Measurement], *, is_on_disk: bool = False) -> list[float]:
    return [
        load.rate(one.objects, one.seconds + (one.sync_s if is_on_disk else 0.0))
        for one in found
        if one.objects
    ]
