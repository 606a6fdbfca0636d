"""The command ``python -m training``: offline training on the weak-label store.

Exit status 0 is good, 1 means that training or export failed, 2 is wrong use.
"""

import sys
from collections.abc import Mapping
from typing import ClassVar

import typer
from rich.console import Console

from dicom_node.cli.lazy import LazyGroup
from dicom_node.errors import ConfigError, NodeError


class _Commands(LazyGroup):
    modules: ClassVar[Mapping[str, str]] = {
        name: f"training.commands.{name}"
        for name in (
            "pretrain",
            "finetune",
            "evaluate",
            "export",
            "reproduce",
            "folds",
            "detect",
            "lesions",
            "cam",
            "volumes",
        )
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
