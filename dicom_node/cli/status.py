"""``dicom-node status``: where a study is, and whether the node needs a look."""

import re
from typing import Annotated, Final

import typer

from dicom_node.books import overview, study
from dicom_node.cli import overview as overview_screen
from dicom_node.cli import study_screen
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json

app = typer.Typer(add_completion=False)

#: What may stand in a UID (PS3.5 9.1).
_PART: Final = re.compile(r"[0-9.]{1,64}")

OneStudy = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]", help="Study Instance UID, or a part of it that no other has."
    ),
]


@app.command()
def status(
    of: OneStudy = None, config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Say where a study is, with times; without one, what needs a look and the latest studies.

    Example: dicom-node status 1.2.840.113619.2.55 --config node.yaml
    """
    settings = load(config)
    if of is None:
        found, show = overview.collect(settings), overview_screen.show
    else:
        found, show = study.collect(settings, _part(of)), study_screen.show
    if as_json:
        print_json(found)
    else:
        show(found)


def _part(given: str) -> str:
    """Return a part of a UID, without the dots that stand for a beginning left out."""
    part = given.removeprefix("...")
    if not _PART.fullmatch(part):
        raise typer.BadParameter(
            "a study is asked for by its Study Instance UID (digits and dots) or a part of it; "
            "accession numbers, names and patient IDs are not looked for",
            param_hint="STUDY",
        )
    return part
