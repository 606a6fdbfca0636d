"""Run the torture harness and write ``build/bench/torture.json``."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node.demo.ports import free_port
from tests.benchmarks.report import BUILD, Row, number, show_pivots, write
from tests.support.orthanc import Orthanc, orthanc
from tests.torture.harness import Outcome, Plan, torture
from tests.torture.killing import Tally
from tests.torture.report import rows

_TELL_EVERY = 10
_SHOWN = 10


def main(words: Sequence[str]) -> int:
    """Return 0 when everything held, 1 when something did not."""
    arguments = _arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no node behind
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    console = Console()
    with _orthanc(arguments.orthanc, folder) as second, _progress(console, arguments.kills) as tell:
        plan = Plan(kills=arguments.kills, seed=arguments.seed, second=second)
        outcome = torture(plan, folder / "node", free_port, tell=tell)
    found = rows(outcome, kills=plan.kills)
    command = " ".join(("python -m tests.torture", *words))
    write("torture", found, command=command, folder=arguments.folder)
    _print(console, found)
    if all(row.met is not False for row in found):
        shutil.rmtree(folder)
        return 0
    _explain(console, outcome, folder)
    return 1


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill the node at every step while modalities send, and count what is left.",
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="decides what is sent and killed")
    parser.add_argument("--orthanc", action="store_true", help="deliver to a real Orthanc, too")
    parser.add_argument("--folder", type=Path, default=BUILD, help="where torture.json goes")
    return parser.parse_args(words)


@contextmanager
def _orthanc(is_wanted: bool, folder: Path) -> Iterator[Orthanc | None]:
    program = shutil.which("Orthanc")
    if not is_wanted:
        yield None
    elif program is None:
        raise SystemExit("Orthanc is missing: apt-get install orthanc")
    else:
        with orthanc(program, folder / "orthanc", free_port, node_port=1) as running:
            yield running


@contextmanager
def _progress(console: Console, kills: int) -> Iterator[Callable[[int, Tally], None]]:
    if not console.is_terminal:
        yield lambda number, tally: _tell(number, tally, kills)
        return
    with Progress(console=console) as progress:
        task = progress.add_task("kills", total=kills)
        yield lambda number, _: progress.update(task, completed=number)


def _tell(number: int, tally: Tally, kills: int) -> None:
    if number % _TELL_EVERY == 0:
        line = f"{number} of {kills}: {tally.kills} kills, {tally.starts} starts; {tally.last}"
        print(line, flush=True)  # noqa: T201


def _print(console: Console, found: Sequence[Row]) -> None:
    table = Table("", "value", "", "goal", "met", title="Torture", title_justify="left")
    for row in found:
        if " | " not in row.row:
            met = "" if row.met is None else "yes" if row.met else "[bold red]no[/]"
            goal = "" if row.goal is None else number(row.goal)
            table.add_row(row.row, number(row.value), row.unit, goal, met)
    console.print(table)
    show_pivots(found, console)


def _explain(console: Console, outcome: Outcome, folder: Path) -> None:
    for name, found in outcome.faults.items():
        for fault in found[:_SHOWN]:
            console.print(f"{name}: {fault}", highlight=False)
    for words in outcome.tally.refused[:_SHOWN]:
        console.print(f"a start that was refused: {words}", highlight=False)
    for name, count in outcome.tally.missed.items():
        console.print(f"not reached in time, {count} times: {name}", highlight=False)
    console.print(
        f"seed {outcome.seed}; the last kill: {outcome.tally.last}; everything is in {folder}",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
