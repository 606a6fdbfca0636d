"""Options that several commands share, and settings made of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dicom_node.errors import ConfigError
from dicom_node.records import GROUPS, Geometry
from training.config import EncoderName, Engine, Settings, Size
from training.recipes.reading import S, checked

# where the frames are
ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", help="The node whose store is meant, where none is named."),
]
DEFAULT_CONFIG = Path("node.yaml")
Store = Annotated[Path | None, typer.Option(help="Folder of the weak-label store.")]
PackFolder = Annotated[
    str | None,
    typer.Option(
        "--pack",
        help="Folder of a pack, on a machine that has no store; or exports: a folder of them, or "
        "s3://BUCKET/PREFIX.",
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder for shards of a bucket, shared by runs.",
        show_default="~/.cache/dicom-node/shards",
    ),
]
CacheGib = Annotated[float, typer.Option(min=0, help="That this folder may take, in GiB.")]

# what learns
Encoder = Annotated[EncoderName, typer.Option(help="The network below.")]
PretrainEncoder = Annotated[
    EncoderName | None,
    typer.Option(help="The network below.", show_default="vgg16_bn; resnet18 for contrast"),
]
EncoderWidth = Annotated[
    int, typer.Option(help="Channels of the first level of the encoder 'small'.")
]
Height = Annotated[int | None, typer.Option(help="Rows of the input, a multiple of 32.")]
Width = Annotated[int | None, typer.Option(help="Columns of the input, a multiple of 32.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training frames.")]
BatchSize = Annotated[int | None, typer.Option(help="Frames a step, of all devices together.")]
LearningRate = Annotated[float | None, typer.Option(help="Of Adam.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]

# where it learns
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu"], typer.Option(help="auto: a GPU where there is one.")
]
Devices = Annotated[int, typer.Option(help="GPUs, or processes on the CPU, of each machine.")]
Nodes = Annotated[int, typer.Option(help="Machines.")]
Precision = Annotated[
    Literal["auto", "32-true", "bf16-mixed"],
    typer.Option(help="auto: bf16 where the device computes it."),
]
Compile = Annotated[bool, typer.Option("--compile", help="Hand networks to torch.compile.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Refuse what does not repeat bit for bit.")
]

# of a table
TableFolder = Annotated[Path, typer.Option("--out", help="Folder of the runs and the report.")]
ClipIndex = Annotated[
    Path, typer.Option("--index", help="CSV of the clips: path, patient, label as 'covid;fold=0'.")
]
PublishedFolder = Annotated[
    Path | None,
    typer.Option("--imagenet", help="Folder of published files, as resnet18-f37072fd.pth."),
]
TableAccelerator = Annotated[
    Literal["auto", "cpu", "gpu"] | None,
    typer.Option("--accelerator", help="Instead of the table's."),
]


def table(metavar: str, names: Iterable[str]) -> Any:
    """Return the argument that names a shipped table, or a file."""
    return typer.Argument(metavar=metavar, help=f"One of {', '.join(names)}, or a file FILE.yaml.")


# what a bundle says of itself
BundleName = Annotated[str | None, typer.Option(help="Name of the model: a-z, 0-9, -.")]
Groups = Annotated[
    str, typer.Option(help=f"Only for these study groups, by comma: {', '.join(GROUPS)}.")
]
Geometries = Annotated[
    str, typer.Option(help=f"Only for these probes, by comma: {', '.join(Geometry)}.")
]
EveryNthFrame = Annotated[int, typer.Option(min=1, help="Analyse every n-th frame of a cine.")]

Draws = Annotated[int, typer.Option(min=1, help="Draws of the bootstrap.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def settings(kind: type[S], **values: Any) -> S:
    """Make settings of options; those that are None keep their default.

    Raises
    ------
    ConfigError
        Names the option whose value will not do.
    """
    try:
        return checked(given(values), kind, where="")
    except ConfigError as exc:
        raise ConfigError(
            "\n".join(_as_option(line, kind) for line in str(exc).split("\n"))
        ) from None


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def size(height: int | None, width: int | None, default: Size) -> Size:
    """Return the size of the input.

    Raises
    ------
    ConfigError
        When it will not do.
    """
    return settings(Size, height=height or default.height, width=width or default.width)


def engine(**values: Any) -> Engine:
    """Return where a run computes.

    Raises
    ------
    ConfigError
        When a value will not do.
    """
    return settings(Engine, **values)


def _as_option(fault: str, kind: type[Settings]) -> str:
    key, _, rest = fault.partition(": ")
    return f"--{key.replace('_', '-')}: {rest}" if key in kind.model_fields else fault
