"""Learning curves of a run: ``epochs.jsonl`` for programs, ``tensorboard/`` for eyes.

Both are views of the same epochs. A run that goes on from its checkpoint tells its epochs anew, so
the files are begun anew as well and hold each epoch once, however often the run was killed.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tensorboard.summary import Writer

from dicom_node.errors import StoreError

EPOCHS: Final = "epochs.jsonl"
TENSORBOARD: Final = "tensorboard"


class EpochLike(Protocol):
    """What is recorded of an epoch; `training.loop.Epoch` is one."""

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
    def learning_rate(self) -> float:
        """Of the first player, at the end."""

    @property
    def frames_per_s(self) -> float:
        """Of training alone."""


_Recorder = Callable[[EpochLike], None]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One epoch, read back."""

    number: int
    training: dict[str, float]
    validation: dict[str, float]
    learning_rate: float
    frames_per_s: float


@contextmanager
def recording(run: Path) -> Iterator[Callable[[EpochLike], None]]:
    """Give a function that is told of each epoch, from the first on.

    Parameters
    ----------
    run : Path
        Folder of the run, there when the first epoch is told; curves in it are begun anew then.
    """
    with ExitStack() as opened:
        recorders: list[_Recorder] = []

        def record(epoch: EpochLike) -> None:
            if not recorders:
                recorders.append(opened.enter_context(_recorder(run)))
            recorders[0](epoch)

        yield record


@contextmanager
def _recorder(run: Path) -> Iterator[_Recorder]:
    shutil.rmtree(run / TENSORBOARD, ignore_errors=True)
    writer = Writer(str(run / TENSORBOARD))
    try:
        # line buffered: whoever watches sees whole epochs
        with (run / EPOCHS).open("w", buffering=1, encoding="utf-8") as lines:

            def record(epoch: EpochLike) -> None:
                lines.write(json.dumps(_plain(epoch), allow_nan=False) + "\n")
                for tag, value in _scalars(epoch).items():
                    writer.add_scalar(tag, value, epoch.number)
                writer.flush()

            yield record
    finally:
        writer.close()


def read(run: Path) -> list[Point]:
    """Return the epochs of a run, in their order; a last line that is cut short is left out.

    Raises
    ------
    StoreError
        When there are none.
    """
    try:
        lines = (run / EPOCHS).read_text("utf-8").splitlines(keepends=True)
    except OSError as exc:
        raise StoreError(
            f"{run}: no learning curves ({EPOCHS}: {exc.strerror}); name the folder of a run"
        ) from None
    return [_point(json.loads(line)) for line in lines if line.endswith("\n")]


def _plain(epoch: EpochLike) -> dict[str, Any]:
    """Return an epoch as JSON knows it: NaN is null."""
    return {
        "number": epoch.number,
        "training": {name: _number(value) for name, value in epoch.training.items()},
        "validation": {name: _number(value) for name, value in epoch.validation.items()},
        "learning_rate": epoch.learning_rate,
        "frames_per_s": epoch.frames_per_s,
    }


def _point(row: dict[str, Any]) -> Point:
    for part in ("training", "validation"):
        row[part] = {n: math.nan if v is None else float(v) for n, v in row[part].items()}
    return Point(**row)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scalars(epoch: EpochLike) -> dict[str, float]:
    """Return what TensorBoard shows: finite numbers by tag."""
    found = {
        **{f"training/{name}": value for name, value in epoch.training.items()},
        **{f"validation/{name}": value for name, value in epoch.validation.items()},
        "learning_rate": epoch.learning_rate,
        "frames_per_s": epoch.frames_per_s,
    }
    return {tag: value for tag, value in found.items() if math.isfinite(value)}
