"""One run: start, send, kill, wait until it is quiet, look."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.outbox import DeliveryState
from dicom_node.records import Task
from tests.support.bundles import write_bundle
from tests.support.faults import Faults
from tests.support.nodes import Node, node_on
from tests.support.orthanc import Orthanc
from tests.support.requesters import Requester, requester
from tests.torture.checks import faults_of, faults_of_reports, left_jobs
from tests.torture.destination import Archive, archive
from tests.torture.killing import Killer, Tally, left_alive
from tests.torture.modalities import Ledger
from tests.torture.schedule import PointKill, schedule
from tests.torture.traffic import Traffic

#: a study is complete so soon
QUIET_S = 0.4
QUIET_DEADLINE_S = 240.0
#: children of a killed supervisor end by themselves
GONE_DEADLINE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    seed: int
    tally: Tally
    ledger: Ledger
    archive: Archive
    #: reports on storage commitment that came
    reports: int
    studies: int
    seconds: float
    #: seconds from the last kill until everything was delivered, None when it never was
    quiet_s: float | None
    #: what is wrong, by the name of the check
    faults: dict[str, list[str]]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.faults.values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run shall do."""

    kills: int
    seed: int
    modalities: int = 3
    receivers: int = 2
    #: a second destination
    second: Orthanc | None = None


def torture(
    plan: Plan,
    folder: Path,
    free_port: Callable[[], int],
    *,
    tell: Callable[[int, Tally], None],
) -> Outcome:
    """Run a node in `folder` through the kills of `plan`.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Empty; everything that the node leaves stays there.
    free_port : callable
        Returns a free port.
    tell : callable
        Called after each kill with how many of the plan are done, and what was done.
    """
    began = time.monotonic()
    faults = Faults(folder / "faults")
    second = [plan.second.destination] if plan.second else []
    with (
        archive(free_port()) as first,
        requester(free_port()) as modality,
        node_on(
            folder,
            free_port(),
            first.destination,
            *second,
            quiet_s=QUIET_S,
            processes=plan.receivers,
            callers=[{"ae_title": modality.ae_title, "host": "*", "port": modality.port}],
        ) as node,
    ):
        node.environment = faults.environment
        for task in Task:
            write_bundle(folder / "bundles" / f"{task.value}.onnx", task)
        traffic = Traffic(node.port, first, modalities=plan.modalities, seed=plan.seed)
        killer = Killer(node, faults, traffic, random.Random(f"killer {plan.seed}"))
        try:
            found = {"what did not happen in time": _kill(plan, killer, tell)}
            quiet_s, unquiet = _quieten(node, killer, traffic, modality)
        finally:
            traffic.stop()
        found |= unquiet | {"processes left": [str(pid) for pid in _remaining(killer)]}
        found |= faults_of(node, traffic.ledger, first)
        found |= {"storage commitments not reported": faults_of_reports(traffic.ledger, modality)}
        if plan.second is not None:
            found |= {"objects that differ at Orthanc": _differing(plan.second, first)}
    return Outcome(
        seed=plan.seed,
        tally=killer.tally,
        ledger=traffic.ledger,
        archive=first,
        reports=len(modality.reports),
        studies=traffic.studies,
        seconds=time.monotonic() - began,
        quiet_s=quiet_s,
        faults=found,
    )


def _kill(plan: Plan, killer: Killer, tell: Callable[[int, Tally], None]) -> list[str]:
    planned = schedule(plan.kills, random.Random(f"schedule {plan.seed}"))
    for number, kill in enumerate(planned, start=1):
        try:
            if not killer.strike(kill) and isinstance(kill, PointKill):
                # once more, at the first arrival
                killer.strike(replace(kill, arrival=1))
        except TimeoutError as exc:
            return [str(exc)]
        tell(number, killer.tally)
    return []


def _quieten(
    node: Node, killer: Killer, traffic: Traffic, modality: Requester
) -> tuple[float | None, dict[str, list[str]]]:
    """Let everything come to its end and stop the node; return what did not."""
    began = time.monotonic()
    killer.stop_feeding()
    traffic.finish()
    quiet_s: float | None = None
    found: dict[str, list[str]] = {"what never became quiet": [], "an unclean stop": []}
    try:
        killer.bring_up()
        killer.wait(lambda: traffic.is_over, QUIET_DEADLINE_S, "not everything was acknowledged")
        killer.wait(lambda: not traffic.unanswered, QUIET_DEADLINE_S, "results are missing")
        ledger = traffic.ledger
        killer.wait(
            lambda: not faults_of_reports(ledger, modality), QUIET_DEADLINE_S, "reports are missing"
        )
        killer.wait(lambda: _is_quiet(node), QUIET_DEADLINE_S, "work is left")
        quiet_s = time.monotonic() - began
    except TimeoutError as exc:
        found["what never became quiet"].append(str(exc))
    status = node.stop()
    if status:
        found["an unclean stop"].append(f"exit status {status}")
    return quiet_s, found


def _is_quiet(node: Node) -> bool:
    with node.index() as index:
        counts = index.counts()
        is_finished = not counts["studies_open"] and not index.unfinished()
    with node.outbox() as outbox:
        is_delivered = not outbox.counts()[DeliveryState.WAITING]
    return is_finished and is_delivered and not left_jobs(node)


def _differing(second: Orthanc, first: Archive) -> list[str]:
    return sorted(first.objects.keys() ^ set().union(*second.studies()))


def _remaining(killer: Killer) -> list[int]:
    end = time.monotonic() + GONE_DEADLINE_S
    while (left := left_alive(killer.groups)) and time.monotonic() < end:
        time.sleep(0.1)
    return left
