"""Kill the node while it delivers to a PACS that fails and restarts: ``make torture-delivery``."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.demo.ports import free_port as find_port
from dicom_node.outbox import DeliveryRow, DeliveryState, Outbox
from tests.support.faults import DELIVERY_POINTS, HASTE, Faults
from tests.support.nodes import Node, node_on
from tests.torture.checks import left_jobs, unexpected_ends
from tests.torture.killing import Killer, Tally
from tests.torture.moody import MoodyPacs, Stored
from tests.torture.owing import Owing
from tests.torture.schedule import PointKill, schedule

QUIET_DEADLINE_S = 120.0
#: what failed is tried again so soon
_RETRY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    tally: Tally
    stored: Stored
    studies: int
    objects: int
    states: Counter[DeliveryState]
    seconds: float
    #: what is wrong
    faults: list[str]


def torture_delivery(
    kills: int,
    seed: int,
    folder: Path,
    free_port: Callable[[], int],
    *,
    tell: Callable[[int, Tally], None],
) -> Outcome:
    """Run a node in `folder` through `kills` kills while it delivers."""
    began = time.monotonic()
    faults = Faults(folder / "faults")
    pacs = MoodyPacs(free_port(), seed)
    with node_on(folder, free_port(), pacs.destination) as node:
        node.environment = faults.environment | {HASTE: str(_RETRY_S)}
        layout = node.layout
        layout.results.mkdir(parents=True)
        with closing(Outbox(layout.outbox, layout.results)) as outbox:
            owing = Owing(outbox, layout.results, pacs, seed)
            killer = Killer(node, faults, owing, random.Random(f"killer {seed}"))
            try:
                found = _kill(kills, seed, killer, tell)
                found += _quieten(node, killer, outbox, pacs)
            finally:
                pacs.stop()
            rows = outbox.rows(limit=100_000)
        found += list(_faults(rows, owing, pacs.stored)) + unexpected_ends(node.log)
    return Outcome(
        tally=killer.tally,
        stored=pacs.stored,
        studies=owing.studies,
        objects=len(owing.objects),
        states=Counter(row.state for row in rows),
        seconds=time.monotonic() - began,
        faults=found,
    )


def _kill(kills: int, seed: int, killer: Killer, tell: Callable[[int, Tally], None]) -> list[str]:
    """Carry out the kills; return the points that were not reached, each tried for minutes."""
    planned = schedule(kills, random.Random(f"schedule {seed}"), DELIVERY_POINTS)
    missed = []
    for number, kill in enumerate(planned, start=1):
        # a node that is still starting on a busy machine gets there later
        tries = [kill] + [replace(kill, arrival=1)] * 3 if isinstance(kill, PointKill) else [kill]
        if not any(killer.strike(one) for one in tries):
            missed.append(f"not reached: {killer.tally.missed}")
        tell(number, killer.tally)
    return missed


def _quieten(node: Node, killer: Killer, outbox: Outbox, pacs: MoodyPacs) -> list[str]:
    killer.stop_feeding()
    pacs.calm_down()
    killer.bring_up()
    try:
        killer.wait(
            lambda: not outbox.counts()[DeliveryState.WAITING] and not left_jobs(node),
            QUIET_DEADLINE_S,
            "not everything was delivered",
        )
    except TimeoutError as exc:
        return [str(exc)]
    status = node.stop()
    return [f"exit status {status}"] if status else []


def _faults(rows: Sequence[DeliveryRow], owing: Owing, stored: Stored) -> list[str]:
    found = [f"{uid} came again with other bytes" for uid in sorted(stored.changed)]
    found += [f"{uid} came and nobody owed it" for uid in stored.objects.keys() - owing.objects]
    if len(rows) != len(owing.objects):
        found.append(f"{len(rows)} rows for {len(owing.objects)} objects")
    for row in rows:
        owed, kept = owing.objects[row.sop_instance_uid], stored.objects.get(row.sop_instance_uid)
        expected = DeliveryState.DELIVERED if owed.is_deliverable else DeliveryState.DEAD
        if row.state is not expected:
            found.append(f"{row.sop_instance_uid} is {row.state.value} ({row.reason})")
        if kept != (owed.sha256 if owed.is_deliverable else None):
            found.append(f"{row.sop_instance_uid} is at the destination as {kept}")
        if row.state is DeliveryState.DEAD and not row.reason:
            found.append(f"{row.sop_instance_uid} is dead for no reason")
    return found


def main(words: Sequence[str]) -> int:
    """Return 0 when everything held, 1 when something did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.delivery", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="decides what is sent and killed")
    arguments = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="torture-delivery-"))

    def tell(number: int, tally: Tally) -> None:
        print(f"{number} of {arguments.kills}: {tally.last}", flush=True)  # noqa: T201

    outcome = torture_delivery(arguments.kills, arguments.seed, folder, find_port, tell=tell)
    for line in summary(outcome):
        print(line)  # noqa: T201
    if outcome.faults:
        return 1
    shutil.rmtree(folder)
    return 0


def summary(outcome: Outcome) -> list[str]:
    """Return what a run came to, in words."""
    tally, stored = outcome.tally, outcome.stored
    states = ", ".join(f"{count} {state.value}" for state, count in sorted(outcome.states.items()))
    moods = ", ".join(f"{count} {mood}" for mood, count in sorted(stored.moods.items()))
    return [
        f"{tally.kills} kills ({tally.points.total()} between two steps), {tally.starts} starts, "
        f"{outcome.seconds:.0f} s",
        f"{outcome.studies} studies, {outcome.objects} objects: {states}",
        f"the PACS: {stored.restarts} restarts, {moods}, {stored.redelivered} came again",
        *(f"wrong: {fault}" for fault in outcome.faults),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
