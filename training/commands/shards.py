"""``train shards``: the frames as shards, for a training machine that has no store or no disk."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from dicom_node.errors import ConfigError
from dicom_node.store.export_places import checked, place
from training import pack as packs
from training.commands import options
from training.commands.sources import open_pack
from training.config import Size
from training.pack.sharding import FRAMES_PER_SHARD, Exported, export

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    to: Annotated[str, typer.Option(help="A folder, or s3://BUCKET/PREFIX.")],
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    height: options.Height = None,
    width: options.Width = None,
    frames_per_shard: Annotated[
        int, typer.Option(min=1, help="Frames a shard; 1024 are 100 MB at 256x384.")
    ] = FRAMES_PER_SHARD,
    keep_old: Annotated[
        bool,
        typer.Option("--keep-old", help="Leave exports of older versions to runs that read them."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Export the frames of the store, shuffled, as WebDataset shards that training reads by URL.

    Given again, it does nothing while the store is as it was; else it exports what the store holds
    now and deletes the export of before. Name the address in harvest.exports of the node, so that
    an erasure reaches it.

    Example: dicom-node train shards --to s3://research/ultrasound --config node.yaml
    """
    size = options.size(height, width, Size())
    target = place(checked(to))
    if store is not None and Path(to).resolve().is_relative_to(store.resolve()):
        raise ConfigError(f"{to}: lies inside the store; name a folder beside it")
    # before hours of work: whether the place can be read at all
    next(target.keys("newest-"), None)
    console = Console(highlight=False)
    pack = open_pack(console, size, node=node, store=store, folder=None)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("export", total=len(pack))
        done = export(
            pack,
            target,
            frames_per_shard=frames_per_shard,
            keep_old=keep_old,
            progress=lambda count, of: progress.update(bar, completed=count, total=of),
        )
    _say(console, target.address, pack, done, as_json=as_json)


def _say(console: Console, to: str, pack: packs.Pack, done: Exported, *, as_json: bool) -> None:
    if as_json:
        console.print_json(
            data={
                "to": to,
                "export": done.name,
                "frames": len(pack),
                "shards": done.shards,
                "was_there": done.was_there,
                "replaced": list(done.replaced),
            }
        )
        return
    what = "is there already" if done.was_there else f"{len(pack)} frames in {done.shards} shards"
    console.print(f"{to}: {done.name}, {what}", soft_wrap=True)
    for other in done.replaced:
        console.print(f"{to}: {other} was deleted; runs that read it begin anew", soft_wrap=True)
