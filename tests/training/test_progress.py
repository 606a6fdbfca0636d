import io

from rich.console import Console

from training.loop import Epoch
from training.progress import PLAIN_LINES, reporting


def lines(epochs: int, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with reporting(console, "learning", epochs) as after_epoch:
        for number in range(1, epochs + 1):
            after_epoch(Epoch(number=number, training_loss=0.5, validation={"loss": 1 / number}))
    return out.getvalue().splitlines()


def test_plain_lines_where_there_is_no_terminal() -> None:
    told = lines(95, terminal=False)
    assert len(told) <= PLAIN_LINES + 2
    assert told[0] == "learning: epoch 1/95: training loss 0.500, validation loss 1.000"
    assert told[-1].startswith("learning: epoch 95/95:")


def test_a_bar_on_a_terminal() -> None:
    assert "95/95" in "".join(lines(95, terminal=True))
