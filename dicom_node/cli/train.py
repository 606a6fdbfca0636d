"""``dicom-node train``: hands its words to the training of this checkout."""

import subprocess

import typer

from dicom_node.demo import TRAINING, has_training

app = typer.Typer(add_completion=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Train on the weak-label store and export a bundle (in a checkout; needs torch).

    Example: dicom-node train finetune --task quality --out runs/quality --bundle quality.onnx
    """
    if not has_training():
        typer.echo(
            "dicom-node: this installation only serves: training needs a checkout of the "
            "repository, installed with 'pip install --editable . --group train'",
            err=True,
        )
        raise typer.Exit(2)
    # its own process: the node itself never loads torch
    finished = subprocess.run([*TRAINING, *context.args], check=False)
    raise typer.Exit(finished.returncode)
