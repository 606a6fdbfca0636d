"""The node on one screen: what needs a look, how much went which way, the latest studies."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.books.where import clock, many, tail
from dicom_node.outbox import DeliveryState

#: Studies that the screen shows.
SHOWN: Final = 8


def show(found: Mapping[str, Any]) -> None:
    """Print what `dicom_node.books.overview.collect` returned."""
    console = Console(highlight=False)
    if not found["needs_a_look"]:
        console.print(Text("Nothing needs a look.", style="bold"))
    else:
        console.print(Text("Needs a look", style="bold red"))
        troubles = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
        for trouble in found["needs_a_look"]:
            troubles.add_row(" *", Text(f"{trouble['what']}\n-> {trouble['cure']}"))
        console.print(troubles)
    for node in found["other_nodes"]:
        console.print(Text(node["line"]))
    console.print()
    console.print(_totals(found["node"], found["counts"]))
    console.print()
    console.print(_latest(found["studies"]))
    console.print(
        Text(
            f"\nTimes are UTC, asked at {clock(found['asked_at'])}. "
            "One study: dicom-node status STUDY, with the UID or a part of it that is its own."
        )
    )


def _totals(node: str, counts: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    waiting = counts["waiting_to_be_registered"]
    table.add_row("node", node)
    table.add_row(
        "received",
        f"{many(counts['instances'], 'instance')} of "
        f"{counts['studies_open'] + counts['studies_complete']} studies, "
        f"{counts['bytes'] / 2**30:.2f} GiB; {many(waiting, 'file')} not yet registered; "
        f"{counts['disk_free_bytes'] / 2**30:.1f} GiB free",
    )
    table.add_row(
        "studies", f"{counts['studies_open']} open, {counts['studies_complete']} complete"
    )
    table.add_row(
        "work", f"{many(counts['jobs_unfinished'], 'job')} to do, {counts['jobs_failed']} failed"
    )
    table.add_row(
        "delivery",
        ", ".join(
            f"{count} {told}"
            for state, told in _STATES.items()
            if (count := counts[f"deliveries_{state.value}"]) or state in _ALWAYS
        ),
    )
    return table


_STATES: Final = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.WAITING: "on the way",
    DeliveryState.STORED: "stored and not committed to",
    DeliveryState.DEAD: "given up",
    DeliveryState.WITHDRAWN: "replaced before they were sent",
}
_ALWAYS: Final = (DeliveryState.DELIVERED, DeliveryState.WAITING)


def _latest(studies: list[dict[str, Any]]) -> Table | Text:
    if not studies:
        return Text("No study came yet.")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("last arrival", "latest studies", "where"):
        table.add_column(column, no_wrap=True)
    table.add_column("instances", justify="right", no_wrap=True)
    for row in studies[:SHOWN]:
        last, study = clock(row["last_received_at"]), tail(row["study_instance_uid"])
        table.add_row(last, study, row["where"], str(row["instances"]))
    return table
