"""The outcome as rows: for the table, and for ``build/bench/torture.json``."""

from collections.abc import Iterator

from tests.benchmarks.report import Row
from tests.support.faults import MOMENTS, POINTS
from tests.torture.harness import Outcome
from tests.torture.schedule import every_stop, name_of


def rows(outcome: Outcome, *, kills: int) -> list[Row]:
    """Return the rows of an outcome, `kills` being the goal."""
    return [
        *_figures(outcome, kills),
        _sides(outcome, kills),
        *_checks(outcome),
        *_points(outcome),
    ]


def _figures(outcome: Outcome, kills: int) -> Iterator[Row]:
    tally, ledger, archive = outcome.tally, outcome.ledger, outcome.archive
    yield _row("kills", tally.kills, "kills", goal=kills, met=tally.kills >= kills)
    for target, count in sorted(tally.random.items()):
        yield _row(f"kills of the {target} at a random moment", count, "kills")
    yield _row("kills between two steps", tally.points.total(), "kills")
    yield _row("starts of the node", tally.starts, "starts")
    refused = len(tally.refused)
    yield _row("starts that were refused", refused, "starts", goal=0, met=not refused)
    yield _row("studies sent", outcome.studies, "studies")
    yield _row("instances sent", len(ledger.images), "instances")
    yield _row("instances acknowledged", len(ledger.acknowledged), "instances")
    yield _row("acknowledgements, with duplicates", ledger.acknowledgements, "responses")
    yield _row("storage commitments asked for", len(ledger.transactions), "requests")
    yield _row("reports on storage commitment", outcome.reports, "reports")
    yield _row("requests that no response came to", ledger.unanswered, "requests")
    yield _row("responses other than Success", ledger.refusals, "responses")
    yield _row("objects at the destination", len(archive.objects), "objects")
    yield _row("objects redelivered, byte for byte", archive.redelivered.total(), "objects")
    quiet_s = None if outcome.quiet_s is None else round(outcome.quiet_s, 1)
    yield _row("from the last kill until everything was delivered", quiet_s, "s")
    yield _row("time", round(outcome.seconds, 1), "s")


def _checks(outcome: Outcome) -> Iterator[Row]:
    for name, found in outcome.faults.items():
        yield _row(name, len(found), "found", goal=0, met=not found)


def _sides(outcome: Outcome, kills: int) -> Row:
    """Return how many sides of the points were hit: all of them, where the kills are enough."""
    names = [name_of(point, moment) for point, moment in every_stop()]
    missed = [name for name in names if not outcome.tally.points[name]]
    hit = len(names) - len(missed)
    unit = f"of {len(names)}"
    if kills < 2 * len(names):
        return _row("sides of fault points that were hit", hit, unit)
    return _row(
        "sides of fault points that were hit",
        hit,
        unit,
        goal=len(names),
        met=not missed,
        why=f"not hit: {', '.join(missed)}" if missed else None,
    )


def _points(outcome: Outcome) -> Iterator[Row]:
    for point in POINTS:
        for moment in MOMENTS:
            count = outcome.tally.points[name_of(point, moment)]
            yield _row(f"Kills at each fault point | {point.name} | {moment}", count, "kills")


def _row(
    row: str,
    value: float | None,
    unit: str,
    *,
    goal: float | None = None,
    met: bool | None = None,
    why: str | None = None,
) -> Row:
    return Row(row=row, value=value, unit=unit, goal=goal, met=met, why=why)
