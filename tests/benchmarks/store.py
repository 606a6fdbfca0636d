"""The weak-label store, measured: ``python -m tests.benchmarks.store``, or ``make bench-store``.

Five questions. How many frames a second training reads in random order, from a pack and from the
store's own PNG files. How many an epoch reads from shards in a folder and in a bucket. Whether
labels are found in a second among a million rows. Whether a frame is appended to them as quickly as
to an empty store. What the harvest adds to decoding.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from tests.benchmarks import store_harvest, store_million, store_reading, store_shards
from tests.benchmarks.report import BUILD, Row, number, show_goals, show_others, write
from tests.support import s3

#: frames/s of 256 x 384
READING_GOAL = 8000.0
QUERY_GOAL_S = 1.0
APPEND_GOAL = HARVEST_GOAL = 0.8
_RATE = "frames/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/store.json``."""
    chosen = _arguments(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[Row] = []
    chosen.folder.mkdir(parents=True, exist_ok=True)
    # beside the result and not in /tmp, which may be memory and knows no fsync
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="store-") as scratch:
        for arm in chosen.only:
            console.print(arm)
            rows += ARMS[arm](Path(scratch) / arm, chosen)
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m tests.benchmarks.store", *words])
    note = (
        f"{chosen.rows:,} rows, {chosen.frames:,} frames to read, {chosen.files} files to harvest, "
        f"{chosen.rounds} rounds; load average {os.getloadavg()[0]:.1f} after"
    )
    path = write("store", rows, command=command, note=note, folder=chosen.folder)
    console.print(note, highlight=False)
    show_goals(rows, console)
    show_others(rows, console)
    console.print(f"written to {path}")
    return 0


def reading(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield what is read in random order."""
    made = store_reading.Made.of(folder, frames=chosen.frames)
    rates = made.rates(rounds=chosen.rounds)
    held = rates[store_reading.LOADER]
    yield Row(
        row=f"random reads, {store_reading.LOADER}",
        value=median(held),
        unit=_RATE,
        against=f"{READING_GOAL:,.0f} {_RATE}",
        ratio=median(held) / READING_GOAL,
        goal=1.0,
        met=median(held) >= READING_GOAL,
        low=min(held) / READING_GOAL,
        high=max(held) / READING_GOAL,
    )
    for way, found in rates.items():
        yield _spread(f"random reads of 256x384 | {way} | rate", found, _RATE)


def shards(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield what epochs give from a pack, and from exports of it in a folder and a bucket."""
    if lacking := s3.missing():
        yield Row(row="shards", value=None, unit=_RATE, why=f"{', '.join(lacking)} missing")
        return
    with s3.storage() as running:
        made = store_reading.Made.of(folder, frames=chosen.frames)
        rates = store_shards.rates(made, folder, running, rounds=chosen.rounds)
    for way, found in rates.items():
        yield _spread(f"epochs of 256x384, training's own batches | {way} | rate", found, _RATE)


def million(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield what many rows cost."""
    full, empty = folder / "full", folder / "empty"
    store_million.populate(full, chosen.rows)
    seconds = store_million.query_seconds(full, rounds=chosen.rounds)
    asked = [name for name in seconds if name != store_million.REPORT]
    slowest = max(asked, key=lambda name: median(seconds[name]))
    value = median(seconds[slowest])
    yield Row(
        row=f"the slowest label query at {chosen.rows:,} rows: {slowest}",
        value=value,
        unit="s",
        against=f"{QUERY_GOAL_S:g} s",
        ratio=QUERY_GOAL_S / value,
        goal=1.0,
        met=value <= QUERY_GOAL_S,
        low=QUERY_GOAL_S / max(seconds[slowest]),
        high=QUERY_GOAL_S / min(seconds[slowest]),
    )
    for name, found in seconds.items():
        yield _spread(f"queries at {chosen.rows:,} rows | {name} | time", found, "s")
    rates = store_million.append_rates((empty, full), frames=chosen.appended, rounds=chosen.rounds)
    yield _held(
        f"appending at {chosen.rows:,} rows", rates[1], rates[0], "an empty store", APPEND_GOAL
    )


def harvest(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield what the harvest adds to decoding the same frames of the same files."""
    for name, make in store_harvest.LOADS.items():
        files = make(folder / "files" / name.replace(" ", "-"), chosen.files)
        ours, bare = store_harvest.rates(files, folder / "data", rounds=chosen.rounds)
        yield _held(f"harvest of {name}", ours, bare, "bare decoding of the same", HARVEST_GOAL)


ARMS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Row]]] = {
    "reading": reading,
    "shards": shards,
    "million": million,
    "harvest": harvest,
}


def _held(
    name: str, ours: Sequence[float], theirs: Sequence[float], against: str, goal: float
) -> Row:
    """Hold rates against others, round by round."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Row(
        row=name,
        value=median(ours),
        unit=_RATE,
        against=f"{against} ({number(median(theirs))})",
        ratio=median(ratios),
        goal=goal,
        met=median(ratios) >= goal,
        low=min(ratios),
        high=max(ratios),
    )


def _spread(name: str, found: Sequence[float], unit: str) -> Row:
    return Row(row=name, value=median(found), unit=unit, low=min(found), high=max(found))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the full store")
    parser.add_argument("--appended", type=int, default=300, help="frames a round, to each store")
    parser.add_argument("--frames", type=int, default=2_000, help="to read from")
    parser.add_argument("--files", type=int, default=120, help="stills to harvest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small numbers, one round")
    parser.add_argument("--folder", type=Path, default=BUILD, help="takes about 4 GB meanwhile")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rows, chosen.appended, chosen.rounds = 2_000, 8, 1
        chosen.frames, chosen.files = 24, 4
    return chosen


if __name__ == "__main__":
    sys.exit(main())
