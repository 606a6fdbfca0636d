"""What a run tells the person who waits: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.loop import Epoch

#: Plain lines of one run, at most.
PLAIN_LINES = 10


@contextmanager
def reporting(console: Console, what: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    """Give a function that is told of each epoch."""
    if not console.is_terminal:
        every = -(-epochs // PLAIN_LINES)

        def line(epoch: Epoch) -> None:
            if epoch.number % every == 0 or epoch.number in (1, epochs):
                text = f"{what}: epoch {epoch.number}/{epochs}: {_numbers(epoch)}"
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
        yield lambda epoch: progress.update(bar, completed=epoch.number, numbers=_numbers(epoch))


def _numbers(epoch: Epoch) -> str:
    scores = " ".join(f"{name} {value:.3f}" for name, value in epoch.validation.items())
    return f"training loss {epoch.training_loss:.3f}, validation {scores}"
