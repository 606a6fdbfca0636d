"""What a matrix tells the person who waits: bars on a terminal, one line a cell everywhere."""

from collections.abc import Iterable, Iterator
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
    at_once : int
        How many run side by side.
    """

    def __init__(
        self, progress: Progress, clock: Clock, cells: tuple[Cell, ...], at_once: int = 1
    ) -> None:
        self._progress = progress
        self._clock = clock
        self._cells = cells
        self._at_once = at_once
        self._matrix = progress.add_task("cells", total=len(cells), told="")
        #: bars of the cells that run
        self._bars: dict[int, TaskID] = {}
        self._to_come: set[int] = set()

    def expect(self, numbers: Iterable[int]) -> None:
        """Tell which cells, numbered from 1, are to be run."""
        self._to_come = set(numbers)
        self._note()

    def begin(self, number: int) -> None:
        """Tell that cell `number` begins."""
        cell = self._cells[number - 1]
        self._bars[number] = self._progress.add_task(
            escape(cell.name), total=cell.settings.epochs, told=""
        )

    def epoch(self, number: int, epoch: EpochLike) -> None:
        """Tell of an epoch of cell `number`."""
        self._progress.update(self._bars[number], completed=epoch.number, told=numbers(epoch))

    def end(self, number: int, told: str) -> None:
        """Tell what came of cell `number`; with it the time that is left."""
        self._progress.remove_task(self._bars.pop(number))
        self._to_come.discard(number)
        left = self._note()
        text = f"{number}/{len(self._cells)} {self._cells[number - 1].name}: {told}"
        self.say(f"{text}; {left}" if left else text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def _note(self) -> str:
        """Move the bar of the matrix; return how long the rest takes, "" when that is not known."""
        seconds = self._clock.total(self._cells[number - 1] for number in self._to_come)
        left = f"about {duration(seconds / self._at_once)} left" if seconds else ""
        done = len(self._cells) - len(self._to_come)
        self._progress.update(self._matrix, completed=done, told=left)
        return left


@contextmanager
def showing(
    console: Console, clock: Clock, cells: tuple[Cell, ...], at_once: int = 1
) -> Iterator[Display]:
    """Give a display for as long as a matrix runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress, clock, cells, at_once)
