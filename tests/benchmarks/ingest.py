"""Receivers side by side: ``python -m tests.benchmarks.ingest``, or ``make bench-ingest``.

All receivers run; all but the measured one are frozen. They take turns within a round, in another
order each round, and start afresh for the next. What the disk still owes is written back before
the next turn. Every acknowledged object is looked for in the receiver's folder.
"""

import argparse
import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.benchmarks.loads import LOADS, Load
from tests.benchmarks.measure import Measurement, begin_harvest, harvested, measure
from tests.benchmarks.processes import freeze, thaw
from tests.benchmarks.receivers import Receiver, Running, compiled_limit, receivers
from tests.benchmarks.report import BUILD, show_goals, show_pivots, write
from tests.benchmarks.rows import rows
from tests.benchmarks.sender import Senders

_HARVEST = "node-harvest"
_BUSY_LOAD = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/ingest.json``."""
    chosen = _arguments(arguments)
    folder = chosen.folder.resolve()
    console = Console(width=None if sys.stdout.isatty() else 160)
    load_before, began = os.getloadavg()[0], time.monotonic()
    if load_before > _BUSY_LOAD:
        console.print(f"the machine is busy (load average {load_before:.1f}): rates will suffer")
    limit = compiled_limit(folder / "bin")
    compared = _only(receivers(limit), chosen.only)
    loads = [_scaled(load, chosen) for load in _only(LOADS, chosen.only)]
    shutil.rmtree(folder / "run", ignore_errors=True)  # of a run that was broken off
    run = Run(folder / "run", compared, loads, seconds=chosen.seconds)
    with Senders(max(load.associations for load in loads)) as senders:
        run.measure(senders, rounds=chosen.rounds, console=console)
    made = rows(run.results, loads, compared)
    note = (
        f"{chosen.rounds} rounds in {(time.monotonic() - began) / 60:.1f} minutes; "
        f"load average {load_before:.1f} before"
    )
    path = write("ingest", made, command=_command(arguments), note=note, folder=chosen.folder)
    show_pivots(made, console)
    show_goals(made, console)
    console.print(f"written to {path}")
    return 0


class Run:
    """All measurements of a run."""

    def __init__(
        self, folder: Path, compared: Sequence[Receiver], loads: Sequence[Load], *, seconds: float
    ) -> None:
        self.results: dict[tuple[str, str], list[Measurement]] = {}
        self._folder = folder
        self._compared = [receiver for receiver in compared if receiver.missing is None]
        self._loads = loads
        self._seconds = seconds
        self._tags = itertools.count(1)

    def measure(self, senders: Senders, *, rounds: int, console: Console) -> None:
        """Measure round by round, every receiver started afresh."""
        progress = Progress(
            TextColumn("{task.description:<60}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        with progress:
            naive = sum(load.is_naive for load in self._loads)
            yardsticks = sum(receiver.is_yardstick for receiver in self._compared)
            turns = len(self._loads) * len(self._compared) - naive * yardsticks
            task = progress.add_task("starting the receivers", total=rounds * turns)
            for number in range(rounds):
                for title in self._round(senders, number):
                    progress.update(task, description=title, advance=1)
                    if not console.is_terminal:
                        print(f"round {number + 1}: {title}", file=sys.stderr, flush=True)  # noqa: T201
                progress.update(task, description="starting the receivers")
        shutil.rmtree(self._folder)

    def _round(self, senders: Senders, number: int) -> Iterator[str]:
        folder = self._folder / f"round-{number + 1}"
        with ExitStack() as stack:
            running = [
                (receiver, _start(stack, receiver, folder / receiver.name))
                for receiver in self._turned(number)
            ]
            for load in self._loads:
                for receiver, one in running:
                    if load.is_naive and receiver.is_yardstick:
                        continue  # neither sender nor machine is the limit there
                    yield f"{load.title}: {receiver.title}"
                    found = self._one(senders, receiver, one, load)
                    self.results.setdefault((load.name, receiver.name), []).append(found)
        _empty(folder)

    def _turned(self, number: int) -> list[Receiver]:
        turn = number * 2 % len(self._compared)
        return [*self._compared[turn:], *self._compared[:turn]]

    def _one(
        self, senders: Senders, receiver: Receiver, running: Running, load: Load
    ) -> Measurement:
        is_harvesting = receiver.name == _HARVEST
        thaw(running)
        try:
            if is_harvesting:
                begin_harvest(running, senders, next(self._tags))
            pictures = harvested(running)
            found = measure(
                running,
                senders,
                load,
                seconds=self._seconds,
                tag=next(self._tags),
                settles=not is_harvesting,
            )
            is_idle = is_harvesting and harvested(running) == pictures
        finally:
            freeze(running)
        if not receiver.is_node and receiver.name != "orthanc":
            _empty(running.kept)
        if is_idle:
            return replace(found, faults=("nothing was harvested meanwhile", *found.faults))
        return found


def _start(stack: ExitStack, receiver: Receiver, folder: Path) -> Running:
    running = stack.enter_context(receiver.start(folder))
    stack.callback(thaw, running)
    freeze(running)
    return running


def _empty(folder: Path | None) -> None:
    """Give back the room of what was looked at.

    The files stay, empty, until the run is over: ext4 makes whoever creates files in the minutes
    after many were deleted look at each of these first, and slows the next receiver down.
    """
    for path in folder.rglob("*") if folder else ():
        if path.is_file():
            os.truncate(path, 0)


def _only(things: Sequence, words: Sequence[str]) -> list:
    """Return those that are named, all when none of them is."""
    return [one for one in things if one.name in words] or list(things)


def _scaled(load: Load, chosen: argparse.Namespace) -> Load:
    if chosen.objects is None:
        return load
    return replace(load, objects=max(1, load.objects * chosen.objects // LOADS[0].objects))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [load.name for load in LOADS] + [one.name for one in receivers(None)]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--objects", type=int, help="0.5 MB stills of one measurement; other loads in proportion"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="a measurement takes no longer (default: 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=names, help="loads and receivers by name"
    )
    parser.add_argument(
        "--folder", type=Path, default=BUILD, help="on the disk that the node's data lies on"
    )
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, min(chosen.seconds, 1.0)
        chosen.objects = chosen.objects or 100
    return chosen


def _command(arguments: Sequence[str] | None) -> str:
    words = sys.argv[1:] if arguments is None else arguments
    return " ".join(["python -m tests.benchmarks.ingest", *words])


if __name__ == "__main__":
    sys.exit(main())
