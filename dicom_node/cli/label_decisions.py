"""``labels history`` and ``labels undo``: who decided what words stand for, and taking it back."""

import getpass
import os
from typing import Annotated, Any

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.errors import ConfigError
from dicom_node.harvest.decisions import Decision
from dicom_node.harvest.desk import is_harvested, open_desk

#: How many lines a reader is shown.
SHOWN_LINES = 50


def history(
    most: Annotated[
        int, typer.Option("--most", min=1, help="How many lines, the latest first.")
    ] = SHOWN_LINES,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List who decided when what words stand for, the latest first.

    The words are what somebody typed and may hold anything: for the eyes of the site only.

    Example: dicom-node labels history --config node.yaml
    """
    settings = load(config)
    rows: list[dict[str, Any]] = []
    if is_harvested(settings.node.data):
        with open_desk(settings.harvest, data=settings.node.data) as desk:
            rows = [_row(line) for line in desk.notes.book.history(most=most)]
    if as_json:
        print_json(rows)
        return
    columns = list(rows[0]) if rows else []
    lines = [["" if value is None else str(value) for value in row.values()] for row in rows]
    print_table("Decisions", columns, lines, empty="nothing was decided yet")


def undo(
    number: Annotated[
        int | None, typer.Argument(help="As 'labels history' numbers it; else the last one.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Take a decision back and relabel what is stored: what held before it holds again.

    Example: dicom-node labels undo 17 --config node.yaml
    """
    settings = load(config)
    if not is_harvested(settings.node.data):
        raise ConfigError(f"{settings.node.data}: nothing was harvested, so nothing was decided")
    with open_desk(settings.harvest, data=settings.node.data) as desk:
        if number is None:
            last = desk.notes.book.last_of()
            if last is None:
                raise ConfigError("no decision holds, so there is none to undo")
            number = last.number
        line = desk.notes.book.undo(number, who=operator())
        count = desk.apply(line)
    typer.echo(f"decision {number} is undone; {said(line)}")
    typer.echo(f"{count} instances have other groups")


def operator() -> str:
    """Return who is at the command line, as the history notes it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        name = f"user {os.getuid()}"
    return f"{name} (command line)"


def said(line: Decision) -> str:
    """Say what holds from a line of the history on."""
    if line.groups is None:
        return "nothing is decided of its words any more"
    return f"its words stand for {'; '.join(sorted(line.groups)) or 'none of the eight'}"


def _row(line: Decision) -> dict[str, Any]:
    return {
        "number": line.number,
        "when": line.decided_at and line.decided_at.isoformat(timespec="seconds"),
        "who": line.who or "not noted",
        "source": line.source.value,
        "words": line.words,
        "groups": None if line.groups is None else "; ".join(sorted(line.groups)) or "none",
        "state": _state(line),
    }


def _state(line: Decision) -> str:
    if line.undoes is not None:
        return f"undoes {line.undoes}"
    return "undone" if line.is_undone else ""
