"""What is owed, by destination and reason; then the jobs, each name in one piece to be copied."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.books.where import clock, many, tail

_Rows = Sequence[Mapping[str, Any]]


def show(found: Mapping[str, Any], others: _Rows) -> None:
    """Print what `dicom_node.books.queue.collect` returned, and a line for each other node."""
    console = Console(highlight=False)
    for node in others:
        console.print(Text(node["line"]))
    if not found["deliveries"]:
        console.print("nothing is owed")
    for (destination, state, answer), rows in _alike(found["deliveries"]).items():
        console.print(Text(f"{destination}: {state}{answer}", style="bold"))
        console.print(_deliveries(rows))
        console.print()
    for name, jobs in (
        ("Jobs", found["unfinished_jobs"]),
        ("Failed and cancelled jobs", found["failed_jobs"] + found["cancelled_jobs"]),
    ):
        if jobs:
            console.print(Text(name, style="bold"))
        for line in _jobs(jobs):
            # the terminal breaks it where it must; what is copied stays whole
            console.print(Text(f"  {line}"), soft_wrap=True)
    if found["deliveries"]:
        console.print(
            Text("Times are UTC. One study: dicom-node status STUDY. --json has every object.")
        )


def _alike(rows: _Rows) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    """Put together what has one destination and one reason: one cure mends all of it."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        said = [f"answer {row['status']}"] if row["status"] else []
        said += [row["reason"]] if row["reason"] else []
        answer = f", {': '.join(said)}" if said else ""
        found.setdefault((row["destination"], row["state"], answer), []).append(row)
    return found


def _deliveries(rows: _Rows) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("study", "what", "attempts", "due"):
        table.add_column(column, no_wrap=True)
    kinds: dict[tuple[str, int, str], Counter[str]] = {}
    for row in rows:
        same = (row["study_instance_uid"], row["attempts"], row["due_at"])
        kinds.setdefault(same, Counter())[row["kind"].upper()] += 1
    for (study, attempts, due), counts in kinds.items():
        table.add_row(tail(study), _counted(counts), str(attempts), clock(due))
    return table


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(many(count, kind) for kind, count in sorted(counts.items()))


def _jobs(jobs: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for job in jobs:
        error = f" ({job['error']})" if job.get("error") else ""
        yield f"{job['state']}{error}  {job['job']}"
        if job.get("cure"):
            yield f"  -> {job['cure']}"
