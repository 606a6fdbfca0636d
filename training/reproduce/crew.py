"""Cells side by side: on a CPU two cells with a thread each are quicker than one with two threads.

Each process runs one cell at a time, as it is told on its pipe. The kernel closes that pipe when
the process that tells them dies, and then they end at once: nobody goes on with a cell unseen.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import torch

from training import pack as packs
from training.engine import launch
from training.loop import Epoch
from training.reproduce import results
from training.reproduce.attempt import Workshop, attempt
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.display import Display
from training.reproduce.estimate import Clock
from training.reproduce.ledger import Entry

#: Number of a cell, from 1, and the cell.
Numbered: TypeAlias = tuple[int, Cell]
_Line: TypeAlias = "Connection[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What a process needs to work for a shop."""

    plan: Plan
    pack: Path
    out: Path
    imagenet: Path | None
    threads: int
    at_once: int


def side_by_side(
    shop: Workshop, todo: Sequence[Numbered], display: Display
) -> Iterator[tuple[int, Cell, Entry]]:
    """Run cells in ``shop.at_once`` processes; yield each as it ends.

    A cell waits for the pretraining that it starts from.
    """
    place = _Place(
        plan=shop.plan,
        pack=shop.pack.folder,
        out=shop.out,
        imagenet=shop.imagenet,
        threads=max(1, torch.get_num_threads() // shop.at_once),
        at_once=shop.at_once,
    )
    waiting = list(todo)
    with ExitStack() as held:
        idle = [held.enter_context(_Hand(place)) for _ in range(min(shop.at_once, len(todo)))]
        busy: dict[_Line, tuple[_Hand, Numbered]] = {}
        while waiting or busy:
            while idle and (found := _ready(waiting, [task for _, task in busy.values()])):
                hand = idle.pop()
                waiting.remove(found)
                hand.give(found[0])
                busy[hand.line] = hand, found
                display.begin(found[0])
            for line in wait(list(busy)):
                hand, (number, cell) = busy[line]  # type: ignore[index]
                told = hand.hear()
                if not isinstance(told, Entry):
                    display.epoch(number, told)
                    continue
                del busy[hand.line]
                if not hand.is_alive and results.finished(shop.out, cell) is not None:
                    told = Entry()  # it died between its cell and telling of it
                idle.append(hand if hand.is_alive else held.enter_context(_Hand(place)))
                yield number, cell, told


def _ready(waiting: Sequence[Numbered], running: Sequence[Numbered]) -> Numbered | None:
    """Return the first cell whose start is neither to come nor running."""
    unfinished = {cell.name for _, cell in (*waiting, *running)}
    for number, cell in waiting:
        start = cell.start if isinstance(cell, FinetuneCell) else None
        if start is None or start.name not in unfinished:
            return number, cell
    return None


class _Hand:
    """A process that runs cells, one at a time."""

    def __init__(self, place: _Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, place))
        self._process.start()
        theirs.close()
        self.is_alive = True

    def __enter__(self) -> "_Hand":
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()
        self._process.join()

    def give(self, number: int) -> None:
        """Let it run a cell."""
        self.line.send(number)

    def hear(self) -> Epoch | Entry:
        """Return what it tells of its cell: an epoch, or what became of it."""
        try:
            told: Epoch | Entry = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.is_alive = False
            self._process.join()
            return Entry(
                reason=f"its process ended with status {self._process.exitcode}; when memory ran "
                "out, give a smaller --at-once"
            )
        return told


def _work(line: _Line, place: _Place) -> None:
    # Ctrl-C reaches every process of a terminal; the one that tells us decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(line, orders), daemon=True).start()
    fabric = launch(place.plan.matrix.engine)
    torch.set_num_threads(place.threads)
    shop = Workshop(
        plan=place.plan,
        pack=packs.open(place.pack),
        out=place.out,
        fabric=fabric,
        imagenet=place.imagenet,
        clock=Clock({}, None),
        at_once=place.at_once,
    )
    while True:
        cell = place.plan.cells[orders.get() - 1]
        line.send(attempt(shop, cell, line.send))


def _listen(line: _Line, orders: "SimpleQueue[int]") -> None:
    while True:
        try:
            orders.put(line.recv())
        except (EOFError, OSError):
            os._exit(0)  # in the middle of a cell too: its checkpoint is on disk
