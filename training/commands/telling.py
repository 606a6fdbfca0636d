"""What a run tells while it works: to who waits, and into its learning curves."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from dicom_node.bundle import Manifest
from training.curves import recording
from training.loop import Epoch
from training.progress import reporting
from training.runs import RunInfo


@contextmanager
def telling(
    console: Console, fabric: Fabric, run: Path, what: str, epochs: int
) -> Iterator[Callable[[Epoch], None]]:
    """Give a function that is told of each epoch; only one process of a run tells."""
    if not fabric.is_global_zero:
        yield lambda epoch: None
        return
    with reporting(console, what, epochs) as report, recording(run) as record:

        def after_epoch(epoch: Epoch) -> None:
            record(epoch)
            report(epoch)

        yield after_epoch


def speaking(console: Console, fabric: Fabric) -> Callable[[str], None]:
    """Return how a table is told of; only one process of a run tells."""
    if not fabric.is_global_zero:
        return lambda _: None
    return partial(console.print, markup=False, soft_wrap=True)


def again(*, without: str = "") -> str:
    """Return the command, as it was given but for an option, that makes all of this again."""
    words = [word for word in sys.argv[1:] if word != without]
    return shlex.join(["dicom-node", "train", *words])


def say_finished(console: Console, run: Path, info: RunInfo) -> None:
    """Print what came out of a run."""
    for measure, value in info.metrics.items():
        console.print(f"{measure} {value:.3f}")
    console.print(
        f"{run}: epoch {info.best_epoch} of {info.settings.epochs} was the best, "
        f"{info.training_frames} training frames, {info.seconds:.0f} s",
        soft_wrap=True,
    )


def say_bundle(console: Console, out: Path, manifest: Manifest) -> None:
    """Print what was exported."""
    console.print(
        f"{out}: {manifest.name} {manifest.version}, from {manifest.provenance.training_frames} "
        f"frames; torch and onnxruntime differ by {manifest.parity.max_abs_difference:.1e} at most",
        soft_wrap=True,
    )
