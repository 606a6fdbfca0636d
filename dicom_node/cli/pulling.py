"""How far a harvest is: a bar with the time left on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dicom_node.pull.reconciled import Told

#: Plain lines of one step, at most, besides those on what is waited for.
PLAIN_LINES = 10


@contextmanager
def showing(console: Console) -> Iterator[Callable[[Told], None]]:
    """Give a function that is told how far it is."""
    if not console.is_terminal:
        yield _plain(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[waits]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars = {}

        def show(told: Told) -> None:
            if told.step not in bars:
                bars[told.step] = progress.add_task(told.step, waits="")
            progress.update(
                bars[told.step], completed=told.done, total=told.total, waits=told.waits_for
            )

        yield show


def _plain(console: Console) -> Callable[[Told], None]:
    told_of: set[tuple[str, int]] = set()

    def show(told: Told) -> None:
        tenth = told.done * PLAIN_LINES // max(told.total, 1)
        if told.waits_for:
            console.print(f"{told.step}: {told.done}/{told.total}, {told.waits_for}")
        elif told.step and (told.step, tenth) not in told_of:
            told_of.add((told.step, tenth))
            console.print(f"{told.step}: {told.done}/{told.total}")

    return show
