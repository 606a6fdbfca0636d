import io
import math
from dataclasses import dataclass, field

from rich.console import Console

from training.progress import PLAIN_LINES, numbers, reporting


@dataclass(frozen=True, kw_only=True)
class Told:
    number: int
    training: dict[str, float] = field(default_factory=lambda: {"network/loss": 0.5})
    validation: dict[str, float] = field(default_factory=lambda: {"loss": 1.0})
    frames_per_s: float = 227.4


def lines(epochs: int, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with reporting(console, "learning", epochs) as after_epoch:
        for number in range(1, epochs + 1):
            after_epoch(Told(number=number))
    return out.getvalue().splitlines()


def test_plain_lines_where_there_is_no_terminal() -> None:
    told = lines(95, terminal=False)
    assert len(told) <= PLAIN_LINES + 2
    assert told[0] == (
        "learning: epoch 1/95: training loss 0.500, validation loss 1.000, 227 images/s"
    )
    assert told[-1].startswith("learning: epoch 95/95:")


def test_a_bar_on_a_terminal() -> None:
    assert "95/95" in "".join(lines(95, terminal=True))


def test_several_players_are_named_and_parts_of_losses_left_out() -> None:
    training = {"encoder/loss": 0.5, "encoder/patch": 0.4, "discriminator/loss": 2.0}
    assert "training loss encoder 0.500 discriminator 2.000," in numbers(
        Told(number=1, training=training)
    )


def test_a_measure_that_no_frame_gave_is_not_told() -> None:
    told = numbers(Told(number=1, validation={"loss": 1.0, "dice_liver": math.nan}))
    assert "validation loss 1.000," in told
