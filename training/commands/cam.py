"""``train cam``: pictures of what runs looked at."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.errors import ConfigError
from training import cam, runs
from training.commands import options
from training.commands.sources import cache_of, open_pack
from training.config import FinetuneSettings
from training.folds import frames as folded
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    found: Annotated[
        list[str],
        typer.Argument(help="Folders of runs, each as NAME=FOLDER; NAME heads its column."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The picture, FILE.png.")],
    index: Annotated[
        Path | None, typer.Option(help="CSV of the frames, for runs of 'train folds'.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Of the index.")] = None,
    count: Annotated[int, typer.Option("--frames", min=1, help="Test frames to show.")] = 6,
    spoken: Annotated[
        cam.Spoken,
        typer.Option("--class", help="What spoke for the true class, or for what the run says."),
    ] = cam.Spoken.TRUE,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Pixels a cell of the map: 32 is the deepest features.",
            show_default="the deepest features of 7 cells a side",
        ),
    ] = None,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    cache: options.CacheFolder = None,
    cache_gib: options.CacheGib = DEFAULT_GIB,
) -> None:
    """Draw by Grad-CAM what of test frames spoke for their class in each run.

    Example: dicom-node train cam random=runs/random uscl=runs/uscl-lung --pack packs/lung
    --out cams.png
    """
    if out.suffix != ".png":
        raise ConfigError(f"{out}: pictures are written as .png; name it so")
    named = dict(_named(text) for text in found)
    first = next(iter(named.values()))
    settings = runs.read(first).settings
    if not isinstance(settings, FinetuneSettings):
        raise ConfigError(f"{first}: no fine-tuned classifier; name runs of 'train finetune'")
    console = Console(highlight=False)
    if index is not None:
        kind = str(settings.labels)
        known = folded.read(index, labels=kind, size=settings.size, dataset=dataset).pack
    else:
        known = open_pack(
            console,
            settings.size,
            node=node,
            store=store,
            folder=pack,
            cache=cache_of(cache, cache_gib),
        )
    rows = cam.tested(first, known, count)
    seen = {
        name: cam.look(run, known, rows, spoken=spoken, stride=stride)
        for name, run in named.items()
    }
    names = _classes(known, settings)
    truth = [names[place] for place in known.rows.class_index[rows]]
    out.parent.mkdir(parents=True, exist_ok=True)
    runs.replace(out, cam.picture(known.frames[rows], seen, truth, names))
    console.print(f"{out}: {len(rows)} test frames of {len(seen)} runs", soft_wrap=True)


def _named(text: str) -> tuple[str, Path]:
    name, between, folder = text.partition("=")
    if not (name and between and folder):
        raise ConfigError(f"{text!r}: give each run as NAME=FOLDER")
    return name, Path(folder)


def _classes(pack: Pack, settings: object) -> tuple[str, ...]:
    labels = settings.labels if isinstance(settings, FinetuneSettings) else None
    return pack.class_sets[labels or ""]
