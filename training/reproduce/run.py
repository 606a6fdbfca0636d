"""Run a matrix cell by cell; after kill -9 the same command goes on where it was.

A finished cell is never run again, a half one goes on from its checkpoint, and a cell that fails is
written down with its reason while the others go on.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from dicom_node.errors import ConfigError
from training import runs
from training.engine import first_alone
from training.reproduce import ledger, results
from training.reproduce.attempt import Workshop, attempt, weights
from training.reproduce.cells import Cell, FinetuneCell
from training.reproduce.crew import Numbered, side_by_side
from training.reproduce.display import Display
from training.reproduce.estimate import duration
from training.reproduce.ledger import Entry, Ledger
from training.tasks.starts import unpublished


def run(shop: Workshop, display: Display) -> Ledger:
    """Run what is not finished of a matrix, and return what became of its cells.

    Raises
    ------
    ConfigError
        When the folder holds runs with other settings or of another store, or is in use.
    """
    shop.out.mkdir(parents=True, exist_ok=True)
    with _owned(shop):
        _check_fits(shop)
        entries = ledger.read(shop.out)
        done = _learn(shop, entries)
        if done:
            display.say(f"{done} of {len(shop.plan.cells)} cells are finished already")
        left_out = _leave_out(shop, entries, display)
        todo = [
            (number, cell)
            for number, cell in enumerate(shop.plan.cells, start=1)
            if cell.name not in left_out and results.finished(shop.out, cell) is None
        ]
        for cell in shop.plan.cells:
            _tidy(shop, cell)
        display.expect(number for number, _ in todo)
        work = side_by_side if shop.at_once > 1 else _in_turn
        for number, cell, entry in work(shop, todo, display):
            if entry.seconds is not None:
                shop.clock.finished(cell, entry.seconds)
            if shop.fabric.is_global_zero:
                entries.put(cell, entry)
            display.end(number, _told(shop.out, cell, entry))
            _tidy(shop, cell)
    return entries


def _in_turn(
    shop: Workshop, todo: Sequence[Numbered], display: Display
) -> Iterator[tuple[int, Cell, Entry]]:
    for number, cell in todo:
        display.begin(number)
        yield number, cell, attempt(shop, cell, partial(display.epoch, number))


def _leave_out(shop: Workshop, entries: Ledger, display: Display) -> set[str]:
    """Write down which cells cannot run with what was given; return their names."""
    found: dict[str, set[str]] = {}
    for cell in shop.plan.finetune:
        if cell.imagenet and weights(shop, cell) is None and not results.finished(shop.out, cell):
            reason = unpublished(cell.settings.encoder)
            found.setdefault(reason, set()).add(cell.name)
            shop.clock.leave_out(cell)
            if shop.fabric.is_global_zero:
                entries.put(cell, Entry(reason=reason, is_left_out=True))
    for reason, names in found.items():
        display.say(f"left out: {len(names)} of {len(shop.plan.cells)} cells: {reason}")
    return set().union(*found.values())


def _told(out: Path, cell: Cell, entry: Entry) -> str:
    info = results.finished(out, cell)
    if info is None:
        return f"FAILED: {entry.reason}"
    kind = "test_" if isinstance(cell, FinetuneCell) else "validation_"
    scores = [
        f"{name} {value:.3f}" for name, value in info.metrics.items() if name.startswith(kind)
    ]
    took = [duration(entry.seconds)] if entry.seconds is not None else []
    return ", ".join(scores[:2] + took)


def _learn(shop: Workshop, entries: Ledger) -> int:
    """Teach the clock what finished cells took; return how many are finished."""
    done = 0
    for cell in shop.plan.cells:
        if results.finished(shop.out, cell) is not None:
            done += 1
            seconds = entries.seconds(cell)
            if seconds is not None:
                shop.clock.finished(cell, seconds)
    return done


def _check_fits(shop: Workshop) -> None:
    for cell in shop.plan.cells:
        folder = results.folder_of(shop.out, cell)
        if not (folder / runs.INFO).exists():
            continue
        info = runs.read(folder)
        if info.settings != cell.settings:
            raise ConfigError(
                f"{folder}: a run with other settings than the matrix has now; "
                "take another --out, or delete that folder"
            )
        if info.store_version != shop.pack.store_version:
            raise ConfigError(
                f"{folder}: a run on the store {info.store_version}, which is "
                f"{shop.pack.store_version} now; take another --out, or the old store"
            )


def _tidy(shop: Workshop, cell: Cell) -> None:
    """Remove the weights of a finished fine-tuning that the matrix does not keep."""
    matrix = shop.plan.matrix
    is_kept = matrix.keep == "all" or not isinstance(cell, FinetuneCell)
    if is_kept or not shop.fabric.is_global_zero:
        return
    if cell.settings.seed != matrix.seeds[0] and results.finished(shop.out, cell) is not None:
        (results.folder_of(shop.out, cell) / runs.NETWORK).unlink(missing_ok=True)


@contextmanager
def _owned(shop: Workshop) -> Iterator[None]:
    """Hold the folder: two matrices in one would tread on each other's runs."""
    with ExitStack() as held:
        first_alone(shop.fabric, lambda: _lock(shop.out, held))
        yield


def _lock(out: Path, held: ExitStack) -> None:
    file = held.enter_context((out / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{out}: another reproduction works there; wait for it, or take another --out"
        ) from None
