"""A full data folder beside an empty one: ``python -m tests.benchmarks.growth``.

Makes a folder with a million small kept files, the rows of their index, a SEG and an SR delivered
for each, and the ended jobs; measures both folders in turns; removes them. Also ``make
bench-growth``.
"""

import argparse
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from statistics import median

from rich.console import Console

from dicom_node.inbox import Inbox
from dicom_node.node.worker import NICENESS
from tests.benchmarks import grown
from tests.benchmarks.loads import LOADS, Load
from tests.benchmarks.populate import STUDY_SIZE, deliver, end_jobs, populate
from tests.benchmarks.report import BUILD, Row, number, show_goals, write

_LOADS = ("still-4", "small-4")
_ORPHANS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/growth.json``."""
    chosen = _arguments(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = chosen.folder.resolve() / "growth"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        rows = Growth(folder, chosen, console).rows()
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    words = " ".join(["python -m tests.benchmarks.growth", *(arguments or sys.argv[1:])])
    path = write("growth", rows, command=words)
    show_goals(rows, console)
    console.print(f"written to {path}")
    return 0


class Growth:
    """One run."""

    def __init__(self, folder: Path, chosen: argparse.Namespace, console: Console) -> None:
        self._empty, self._full = folder / "empty", folder / "full"
        self._count, self._rounds, self._seconds = chosen.count, chosen.rounds, chosen.seconds
        self._console = console
        self._grown = f"{chosen.count:,} instances"
        self._loads = [load for load in LOADS if load.name in _LOADS]

    def rows(self) -> list[Row]:
        """Populate and measure."""
        self._populate()
        steps = (
            self._starts,
            self._status,
            self._registering,
            self._receiving,
            self._yielding,
            self._orphans,
        )
        found = []
        for step in steps:
            for row in step():
                self._console.print(f"{row.row}: {number(row.value)} {row.unit}")
                found.append(row)
        return found

    def _populate(self) -> None:
        self._say("populating")
        data = self._full / "node-data"
        data.mkdir(parents=True)
        populate(Inbox(data / "inbox", min_free_bytes=0), data / "index.db", self._count)
        deliver(data / "outbox.db", self._count)
        for folder in (self._full, self._empty):
            grown.start_s(folder, is_cold=False)  # makes what is not there yet
        end_jobs(data / "jobs.db", self._count // STUDY_SIZE)

    def _starts(self) -> list[Row]:
        rows = []
        for title, is_cold in (("page cache dropped before", True), ("page cache warm", False)):
            self._say(f"start-up, {title}")
            found = [grown.start_s(self._full, is_cold=is_cold) for _ in range(self._rounds)]
            name = f"start-up until ready, {self._grown}, {title}"
            if None in found:
                why = "only root may drop the page cache"
                rows.append(Row(row=name, value=None, unit="s", why=why))
            else:
                rows.append(_within(name, [s for s in found if s is not None], 10.0))
        empty = [grown.start_s(self._empty, is_cold=False) or 0.0 for _ in range(self._rounds)]
        name = "start-up until ready, nothing kept, page cache warm"
        return [*rows, _row(name, empty, "s")]

    def _status(self) -> list[Row]:
        self._say("status")
        seconds, cpu_s = grown.status_s(self._full, times=2 * self._rounds + 1)
        small, _ = grown.status_s(self._empty, times=2 * self._rounds + 1)
        return [
            _within(f"dicom-node status, {self._grown}", seconds, 1.0),
            Row(row=f"dicom-node status, {self._grown}, CPU time", value=cpu_s, unit="s"),
            _row("dicom-node status, nothing kept", small, "s"),
        ]

    def _registering(self) -> list[Row]:
        self._say("registering")
        data = [folder / "node-data" for folder in (self._empty, self._full)]
        rates = grown.registering(data, files=2560, rounds=self._rounds)
        return [_against_empty("registering small files", rates, "files/s", self._grown)]

    def _receiving(self) -> list[Row]:
        self._say("receiving")
        folders = [self._empty, self._full]
        rates = grown.receiving(folders, self._loads, rounds=self._rounds, seconds=self._seconds)
        return [
            _against_empty(f"receiving {load.title}", rates[load.name], load.unit, self._grown)
            for load in self._loads
        ]

    def _yielding(self) -> list[Row]:
        self._say("the worker's priority")
        return [self._yielding_at(load) for load in self._loads]

    def _yielding_at(self, load: Load) -> Row:
        name = f"receiving {load.title}, worker at niceness {NICENESS}"
        levels = (0, NICENESS)
        with suppress(PermissionError):
            usual, nice = grown.yielding(
                self._empty, load, levels, rounds=self._rounds, seconds=self._seconds
            )
            return _compared(name, usual, nice, load.unit, "niceness 0")
        return Row(row=name, value=None, unit=load.unit, why="only root may raise a priority")

    def _orphans(self) -> list[Row]:
        """Forget rows as a restored older index does, and start."""
        self._say("adopting orphans")
        index = self._full / "node-data" / "index.db"
        with closing(sqlite3.connect(index)) as connection:
            connection.execute(
                "DELETE FROM instance WHERE file_id IN (SELECT file_id FROM instance "
                "ORDER BY file_id LIMIT ?)",
                (_ORPHANS,),
            )
            connection.commit()
            [left] = connection.execute("SELECT count(*) FROM instance").fetchone()
            seconds = grown.start_s(self._full, is_cold=False) or 0.0
            [now] = connection.execute("SELECT count(*) FROM instance").fetchone()
        if now - left != _ORPHANS:
            raise RuntimeError(f"{now - left} of {_ORPHANS} orphans were adopted")
        name = f"start-up that adopts {_ORPHANS:,} orphans, {self._grown}"
        return [_within(name, [seconds], 10.0)]

    def _say(self, what: str) -> None:
        self._console.print(what)


def _within(name: str, seconds: list[float], limit_s: float) -> Row:
    value = median(seconds)
    ratio = limit_s / value
    return Row(
        row=name,
        value=value,
        unit="s",
        against=f"{limit_s:g} s",
        ratio=ratio,
        goal=1.0,
        met=ratio >= 1,
        low=min(seconds),
        high=max(seconds),
    )


def _against_empty(what: str, rates: list[list[float]], unit: str, grown_to: str) -> Row:
    return _compared(f"{what}, {grown_to}", *rates, unit, "an empty node", goal=0.9)


def _compared(
    name: str,
    base: list[float],
    rates: list[float],
    unit: str,
    against: str,
    goal: float | None = None,
) -> Row:
    ratio = median(rate / other for rate, other in zip(rates, base, strict=True))
    return Row(
        row=name,
        value=median(rates),
        unit=unit,
        against=f"{against} ({median(base):.0f})",
        ratio=ratio,
        goal=goal,
        met=None if goal is None else ratio >= goal,
        low=min(rates),
        high=max(rates),
    )


def _row(name: str, values: list[float], unit: str) -> Row:
    return Row(row=name, value=median(values), unit=unit, low=min(values), high=max(values))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="instances of the full folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement at most")
    parser.add_argument("--folder", type=Path, default=BUILD, help="takes about 8 GB meanwhile")
    parser.add_argument("--keep", action="store_true", help="do not remove the folders")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
