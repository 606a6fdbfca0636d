"""What a matrix tells the person who waits: bars on a terminal, one line a cell everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from training.progress import EpochLike, numbers
from training.reproduce.cells import Cell
from training.reproduce.estimate import Clock, duration


class Display:
    """Told by the runner of each cell and each epoch.

    Parameters
    ----------
    progress : Progress
        Shows bars where there is a terminal.
    clock : Clock
        Knows what is left.
    cells : tuple of Cell
        All of them, in their order.
    """

    def __init__(self, progress: Progress, clock: Clock, cells: tuple[Cell, ...]) -> None:
        self._progress = progress
        self._clock = clock
        self._cells = cells
        self._matrix = progress.add_task("cells", total=len(cells), told="")
        self._cell: TaskID | None = None

    def begin(self, number: int) -> None:
        """Tell that cell `number`, from 1, begins."""
        cell = self._cells[number - 1]
        self._progress.update(self._matrix, completed=number - 1, told=self._left(number - 1))
        if self._cell is not None:
            self._progress.remove_task(self._cell)
        self._cell = self._progress.add_task(escape(cell.name), total=cell.settings.epochs, told="")

    def epoch(self, epoch: EpochLike) -> None:
        """Tell of an epoch of the cell that runs."""
        if self._cell is not None:
            self._progress.update(self._cell, completed=epoch.number, told=numbers(epoch))

    def end(self, number: int, told: str) -> None:
        """Tell what came of cell `number`; with it the time that is left."""
        self._progress.update(self._matrix, completed=number, told=self._left(number))
        text = f"{number}/{len(self._cells)} {self._cells[number - 1].name}: {told}"
        left = self._left(number)
        self.say(f"{text}; {left}" if left else text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def _left(self, done: int) -> str:
        seconds = self._clock.total(self._cells[done:])
        return f"about {duration(seconds)} left" if seconds else ""


@contextmanager
def showing(console: Console, clock: Clock, cells: tuple[Cell, ...]) -> Iterator[Display]:
    """Give a display for as long as a matrix runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress, clock, cells)
