"""What a run tells the person who waits: a bar on a terminal, plain lines elsewhere."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Plain lines of one run, at most.
PLAIN_LINES = 10


class EpochLike(Protocol):
    """What is told of an epoch; `training.loop.Epoch` is one."""

    @property
    def number(self) -> int:
        """From 1."""

    @property
    def training(self) -> Mapping[str, float]:
        """Means of what the losses told, ``turn/part``."""

    @property
    def validation(self) -> Mapping[str, float]:
        """Measures on the validation frames; NaN where no frame gave one."""

    @property
    def frames_per_s(self) -> float:
        """Of training alone."""


@contextmanager
def reporting(console: Console, what: str, epochs: int) -> Iterator[Callable[[EpochLike], None]]:
    """Give a function that is told of each epoch."""
    if not console.is_terminal:
        every = -(-epochs // PLAIN_LINES)

        def line(epoch: EpochLike) -> None:
            if epoch.number % every == 0 or epoch.number in (1, epochs):
                text = f"{what}: epoch {epoch.number}/{epochs}: {numbers(epoch)}"
                console.print(text, soft_wrap=True)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=epochs, numbers="")
        yield lambda epoch: progress.update(bar, completed=epoch.number, numbers=numbers(epoch))


def numbers(epoch: EpochLike) -> str:
    """Return the losses, the measures that there are, and the speed of an epoch, on one line."""
    # one player's loss needs no name
    losses = {n.removesuffix("/loss"): v for n, v in epoch.training.items() if n.endswith("/loss")}
    learned = " ".join(
        f"{value:.3f}" if len(losses) == 1 else f"{name} {value:.3f}"
        for name, value in losses.items()
    )
    scores = " ".join(
        f"{name} {value:.3f}" for name, value in epoch.validation.items() if not math.isnan(value)
    )
    return f"training loss {learned}, validation {scores}, {epoch.frames_per_s:.0f} images/s"
