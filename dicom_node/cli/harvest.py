"""``dicom-node harvest``: pull studies of an archive, or take the files of a folder."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from dicom_node import log
from dicom_node.archives import PaceSettings
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.cli.pulling import showing
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.node.harvesting import archive_of, harvest_archive, harvest_folder
from dicom_node.node.layout import Layout
from dicom_node.node.locks import is_owned
from dicom_node.pull.asked import Wanted
from dicom_node.pull.folder import GOOD, Fate
from dicom_node.pull.reconciled import Reconciled

app = typer.Typer(add_completion=False)

#: Studies that lack something, on the screen; --json has all.
SHOWN_LACKS = 20
_DATE_FORMATS = ["%Y-%m-%d", "%Y%m%d"]

Day = Annotated[datetime | None, typer.Option(formats=_DATE_FORMATS, help="First day of studies.")]
LastDay = Annotated[
    datetime | None, typer.Option(formats=_DATE_FORMATS, help="Last day; today where not given.")
]
Rate = Annotated[float | None, typer.Option(help="On the average, in place of the archive's.")]


@app.command()
def harvest(  # noqa: PLR0913 (one parameter an option)
    folder: Annotated[
        Path | None, typer.Argument(help="Take the DICOM files of this folder.")
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option("--from", help="Pull from this one of archives:.")
    ] = None,
    since: Day = None,
    until: LastDay = None,
    modality: Annotated[str | None, typer.Option(help="Of a series of the study, as US.")] = None,
    description: Annotated[
        str | None, typer.Option(help="Study Description with * and ?, whatever the case.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="As 22:00-06:00, in place of the archive's.")
    ] = None,
    studies_per_minute: Rate = None,
    instances_per_minute: Rate = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Pull studies of an archive, or take a folder's files; exit status 1 when something lacks.

    What comes is kept, registered and harvested as if it had been sent. Killed, it goes on where it
    was when the same line is given again.

    Example: dicom-node harvest --from pacs --since 2024-01-01 --modality US --config node.yaml
    """
    log.configure(logging.WARNING)
    settings = load(config)
    given = {
        "window": window,
        "studies_per_minute": studies_per_minute,
        "instances_per_minute": instances_per_minute,
    }
    if (folder is None) == (source is None):
        raise ConfigError("harvest: name a folder, or an archive with --from and --since")
    if folder is not None:
        if any(value is not None for value in (since, until, modality, description)):
            raise ConfigError("harvest FOLDER: --since and its like are for --from; leave them out")
        is_good = _from_folder(settings, folder, _pace(PaceSettings(), given), as_json=as_json)
    elif source is not None and since is not None:
        wanted = _wanted(since.date(), until and until.date(), modality, description)
        pace = _pace(archive_of(settings, source), given)
        is_good = _from_archive(settings, source, wanted, pace, as_json=as_json)
    else:
        raise ConfigError("harvest --from: add --since, as --since 2024-01-01")
    if not is_good:
        raise typer.Exit(1)


def _wanted(
    since: date, until: date | None, modality: str | None, description: str | None
) -> Wanted:
    last = until or datetime.now(UTC).astimezone().date()
    if last < since:
        raise ConfigError(f"--until {last} is before --since {since}; exchange them")
    return Wanted(
        since=since,
        until=last,
        modality=None if modality is None else modality.strip().upper(),
        description=description,
    )


def _pace(settings: PaceSettings, given: Mapping[str, object]) -> PaceSettings:
    configured = {name: getattr(settings, name) for name in PaceSettings.model_fields}
    try:
        return PaceSettings.model_validate(
            configured | {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as exc:
        [first, *_] = exc.errors()
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option} {first['input']}: {first['msg']}") from None


def _from_archive(
    settings: Config, name: str, wanted: Wanted, pace: PaceSettings, *, as_json: bool
) -> bool:
    console = Console(highlight=False, stderr=as_json)
    if settings.bundles is not None and settings.destinations:
        names = ", ".join(one.name for one in settings.destinations)
        console.print(f"what comes is analysed, too, and results go to {names}; see harvesting.md")
    with showing(console) as tell:
        found = harvest_archive(settings, name, wanted, pace=pace, tell=tell)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)
    return found.is_good


def _show(found: Reconciled) -> None:
    rows = {
        "studies found": found.found,
        "... here before": found.whole_before,
        "... complete now": found.whole,
        "... that lack instances": len(found.lacks),
        "instances of the complete studies": found.instances,
        "instances missing": sum(lack.missing for lack in found.lacks),
        "instances asked for": found.asked_for,
        "studies that the archive named and nobody wanted": found.not_wanted,
    }
    print_table(
        "Held against the archive",
        ["what", "count"],
        [[what, str(count)] for what, count in rows.items()],
        empty="",
    )
    if found.lacks:
        print_table(
            "Not complete; the same line asks for the rest again",
            ["study", "missing", "of", "reason"],
            [
                [lack.study_instance_uid, str(lack.missing), str(lack.instances), lack.reason]
                for lack in found.lacks[:SHOWN_LACKS]
            ],
            empty="",
        )
        if len(found.lacks) > SHOWN_LACKS:
            typer.echo(f"and {len(found.lacks) - SHOWN_LACKS} more; --json names all")
    for when in found.cut[:SHOWN_LACKS]:
        typer.echo(
            f"{when}: the answer may have been cut short; raise longest_answer if the archive "
            "sends more studies at a time"
        )


def _from_folder(settings: Config, folder: Path, pace: PaceSettings, *, as_json: bool) -> bool:
    console = Console(highlight=False, stderr=as_json)
    with showing(console) as tell:
        fates = harvest_folder(settings, folder, pace=pace, tell=tell)
    counts = {fate.value: fates[fate] for fate in Fate}
    is_served = is_owned(settings.node.data)
    is_good = _are_good(fates)
    listed = None if is_good else str(Layout(settings.node.data).not_taken)
    if as_json:
        print_json({"files": counts, "node_runs": is_served, "not_taken": listed})
    else:
        rows = [[what, str(count)] for what, count in counts.items()]
        print_table("Files", ["what", "count"], rows, empty="")
        if listed is not None:
            typer.echo(f"which files were not taken, and why: {listed}")
        if fates[Fate.BARE]:
            typer.echo("without preamble: write them anew with DCMTK's 'dcmconv IN OUT', take OUT")
        if not is_served:
            typer.echo("no node runs: they are registered when 'dicom-node serve' starts")
    return is_good


def _are_good(fates: Counter[Fate]) -> bool:
    return not any(count for fate, count in fates.items() if fate not in GOOD)
