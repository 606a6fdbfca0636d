"""The command ``python -m training``: offline training on the weak-label store.

Exit status 0 is good, 1 means that training or export failed, 2 is wrong use.
"""

import sys
from collections.abc import Mapping
from typing import ClassVar

import typer
from rich.console import Console

from dicom_node.cli.lazy import LazyGroup, Listed
from dicom_node.errors import ConfigError, NodeError


class _Commands(LazyGroup):
    listed: ClassVar[Mapping[str, Listed]] = {
        "shards": Listed(
            "training.commands.shards",
            "Export the frames of the store, shuffled, as WebDataset shards that training reads by"
            " URL.",
        ),
        "pretrain": Listed(
            "training.commands.pretrain",
            "Pretrain an encoder on all frames but those of the test patients.",
        ),
        "finetune": Listed(
            "training.commands.finetune",
            "Fine-tune a network on labelled frames, measure it on the test patients.",
        ),
        "evaluate": Listed(
            "training.commands.evaluate",
            "Measure a run on the test patients: mean and spread over draws of half of them.",
        ),
        "export": Listed(
            "training.commands.export",
            "Write the network of a run as a bundle, if onnxruntime answers what torch does.",
        ),
        "reproduce": Listed(
            "training.commands.reproduce",
            "Reproduce a whole table: pretrain, fine-tune, test and report, cell by cell.",
        ),
        "folds": Listed(
            "training.commands.folds",
            "Pretrain on all folds but one, fine-tune, and test on that one; each fold in turn.",
        ),
        "detect": Listed(
            "training.commands.detect",
            "Train Mask R-CNN to find and outline what masks show; average precision on test "
            "patients.",
        ),
        "lesions": Listed(
            "training.commands.lesions",
            "Pretrain on clips by each strategy, find lesions from each: average precision by "
            "start.",
        ),
        "cam": Listed(
            "training.commands.cam",
            "Draw by Grad-CAM what of test frames spoke for their class in each run.",
        ),
        "volumes": Listed("training.commands.volumes", "Learn from CT and MR series."),
    }


app = typer.Typer(
    name="training",
    cls=_Commands,
    help="Train on the weak-label store and export .onnx bundles for the node.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options() -> None:
    """Train on the weak-label store and export .onnx bundles for the node.

    Example: dicom-node train pretrain --recipe ce_dcm --out runs/ce_dcm
    """


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="dicom-node train")  # which hands its words to this one
    except NodeError as exc:
        _complain(str(exc))
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except OSError as exc:  # a disk that is full, a folder that may not be written
        where = f"{exc.filename}: " if exc.filename else ""
        _complain(f"{where}{exc.strerror or exc}; see to it and give the same command again")
        sys.exit(1)


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False).print(
        f"training: {text}", style="red", markup=False, soft_wrap=True
    )


if __name__ == "__main__":
    main()
