"""The outcome as rows: for the table, and for ``build/bench/torture.json``."""

from collections.abc import Iterator
from typing import Any

from tests.torture.harness import Outcome
from tests.torture.schedule import every_stop

Row = dict[str, Any]


def rows(outcome: Outcome, *, kills: int) -> list[Row]:
    """Return the rows of an outcome, `kills` being the goal."""
    return [*_figures(outcome, kills), *_checks(outcome), *_points(outcome, kills)]


def _figures(outcome: Outcome, kills: int) -> Iterator[Row]:
    tally, ledger = outcome.tally, outcome.ledger
    yield _row("kills", tally.kills, "kills", goal=kills, met=tally.kills >= kills)
    for target, count in sorted(tally.random.items()):
        yield _row(f"kills of the {target} at a random moment", count, "kills")
    yield _row("kills at a point between two steps", tally.points.total(), "kills")
    yield _row("starts of the node", tally.starts, "starts")
    yield _row("starts that were refused", len(tally.refused), "starts")
    yield _row("studies sent", outcome.studies, "studies")
    yield _row("instances sent", len(ledger.images), "instances")
    yield _row("instances acknowledged", len(ledger.acknowledged), "instances")
    yield _row("acknowledgements, with duplicates", ledger.acknowledgements, "responses")
    yield _row("storage commitments asked for", len(ledger.transactions), "requests")
    yield _row("reports on storage commitment", outcome.reports, "reports")
    yield _row("requests that no response came to", ledger.unanswered, "requests")
    yield _row("responses other than Success", ledger.refusals, "responses")
    yield _row("objects at the destination", len(outcome.archive.objects), "objects")
    yield _row("objects redelivered", outcome.archive.redelivered.total(), "objects")
    quiet_s = None if outcome.quiet_s is None else round(outcome.quiet_s, 1)
    yield _row("from the last kill until quiet", quiet_s, "s")
    yield _row("time", round(outcome.seconds, 1), "s")


def _checks(outcome: Outcome) -> Iterator[Row]:
    for name, found in outcome.faults.items():
        yield _row(name, len(found), "found", goal=0, met=not found)


def _points(outcome: Outcome, kills: int) -> Iterator[Row]:
    stops = [f"{moment} {point.function}" for point, moment in every_stop()]
    hits = outcome.tally.points
    is_long = kills >= 2 * len(stops)
    goal = len(stops) if is_long else None
    hit = sum(hits[stop] > 0 for stop in stops)
    yield _row("sides of points hit", hit, "of them", goal=goal, met=hit == goal if goal else None)
    for stop in stops:
        yield _row(
            f"kills {stop}",
            hits[stop],
            "kills",
            goal=1 if is_long else None,
            met=hits[stop] > 0 if is_long else None,
        )


def _row(
    row: str, value: float | None, unit: str, *, goal: float | None = None, met: bool | None = None
) -> Row:
    return {
        "row": row,
        "value": value,
        "unit": unit,
        "against": None,
        "ratio": None,
        "goal": goal,
        "met": met,
    }
