"""A store's catalogue in SQLite and in PostgreSQL, side by side on one machine.

``python -m tests.benchmarks.store_engines --rows 400000``; needs PostgreSQL's server programs.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psycopg

from dicom_node.demo.ports import free_port
from dicom_node.store import Erasure, WeakLabelStore, moving, places
from tests.benchmarks.store_million import append_rates, populate, query_seconds
from tests.benchmarks.store_reading import frame
from tests.support.postgres import postgres

#: Beyond the numbers of the frames that `append_rates` adds.
_FIRST = 5 * 10**8
_FRAMES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each thing that was."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store_engines")
    parser.add_argument("--rows", type=int, default=400_000, help="frames of the full store")
    rows = int(parser.parse_args(arguments).rows)
    with tempfile.TemporaryDirectory() as name, postgres(free_port(), is_durable=True) as create:
        folder, url = Path(name), create("store")
        _say("load of the machine", [os.getloadavg()[0]], "")
        _appends(folder, url)
        full = folder / "full"
        populate(full, rows)
        on_server = folder / "server"
        on_server.mkdir()
        (full / "catalogue.db").rename(on_server / "catalogue.db")
        took_s = _seconds(lambda: moving.move(on_server, url))
        _say(f"moved to the server, {rows:,} frames, every row compared", [took_s], "s")
        moving.copy_to_file(on_server, full / places.FILE)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        _questions([full, on_server])
        _say("load of the machine", [os.getloadavg()[0]], "")
    return 0


def _appends(folder: Path, url: str) -> None:
    stores = [folder / "file", folder / "new on a server"]
    WeakLabelStore(stores[0]).close()
    WeakLabelStore(stores[1], new_on=url).close()
    one_by_one = append_rates(stores, frames=100, rounds=5)
    _say("into an empty store, one by one", map(statistics.median, one_by_one), "frames/s")
    rates: list[list[float]] = [[], []]
    opened = [WeakLabelStore(store) for store in stores]
    for number in range(6):
        first = _FIRST + number * _FRAMES
        new = [frame(first + place) for place in range(_FRAMES)]
        for turn in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            with opened[turn].together() as one:
                for each in new:
                    one.put_frame(each)
            rates[turn].append(_FRAMES / (time.perf_counter() - began))
    for store in opened:
        store.close()
    _say("into an empty store, as a harvest", map(statistics.median, rates), "frames/s")


def _questions(folders: Sequence[Path]) -> None:
    seconds = [query_seconds(folder, rounds=5) for folder in folders]
    for name in seconds[0]:
        _say(name, (statistics.median(each[name]) for each in seconds), "s")
    for name in ("version", "info"):
        found = []
        for folder in folders:
            with WeakLabelStore(folder) as store:
                found.append(_seconds(getattr(store, name)))
        _say(name, found, "s")
    rates = append_rates(folders, frames=100, rounds=3)
    _say("into the full store, one by one", map(statistics.median, rates), "frames/s")
    _say("a patient erased", (_erased(folder) for folder in folders), "s")


def _erased(folder: Path) -> float:
    with WeakLabelStore(folder) as store:
        patient = store.where(split="test").frames()[0].patient
    with Erasure(folder, patient) as erasure, erasure.alone():
        return _seconds(erasure.run)


def _seconds(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _say(what: str, found: Iterable[float], unit: str) -> None:
    """Print what was found of the file, then of the server."""
    values = ", ".join(f"{value:.3g}" for value in found)
    print(f"{what}: {values} {unit}".rstrip(), flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    raise SystemExit(main())
