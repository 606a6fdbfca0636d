"""``train export``: a run as one bundle for the node."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node import codes
from dicom_node.bundle import Routing
from dicom_node.errors import ConfigError
from dicom_node.records import GROUPS, Geometry
from training.commands import options
from training.commands.telling import say_bundle
from training.export import Bundling, export

app = typer.Typer(add_completion=False)

#: What a scored view may show, by the word for it.
SITES = {
    "liver": codes.LIVER,
    "kidney": codes.KIDNEY,
    "peritoneal cavity": codes.PERITONEAL_CAVITY,
}


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    run: Annotated[Path, typer.Argument(help="Folder of a run of fine-tuning.", metavar="RUN")],
    *,
    out: Annotated[Path, typer.Option(help="The bundle to write, FILE.onnx.")],
    name: options.BundleName = None,
    groups: options.Groups = "",
    geometries: options.Geometries = "",
    every_nth_frame: options.EveryNthFrame = 1,
    sites: Annotated[
        str, typer.Option(help=f"What a scored view shows, by comma: {', '.join(SITES)}.")
    ] = ",".join(SITES),
) -> None:
    """Write the network of a run as a bundle, if onnxruntime answers what torch does.

    Example: dicom-node train export runs/organs --out bundles/liver-kidney.onnx
    --groups liver,kidney
    """
    bundling = Bundling(
        name=name,
        routing=Routing(
            groups=_listed(groups, GROUPS, "--groups"),
            geometries=tuple(map(Geometry, _listed(geometries, Geometry, "--geometries"))),
        ),
        every_nth_frame=every_nth_frame,
        finding_sites=tuple(SITES[site] for site in _listed(sites, SITES, "--sites")),
    )
    say_bundle(Console(highlight=False), out, export(run, out, bundling))


def _listed(text: str, known: Iterable[str], option: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in found:
        if part not in tuple(known):
            raise ConfigError(f"{option} {part!r}: give some of {', '.join(known)}")
    return found
