"""What a run tells while it works: to who waits, and into its learning curves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
