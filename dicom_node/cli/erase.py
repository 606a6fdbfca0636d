"""``dicom-node store erase``, and ``accept``, which takes its refusal back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.harvest.erasing import accept_patient, erasing_patient
from dicom_node.store import Erased
from dicom_node.store.export_places import checked

#: Beside the store, where training builds them unless it is told otherwise.
PACKS: Final = "packs"
#: What this command does not reach.
NOT_ERASED: Final = (
    "the images and their index on this node, and results made of them (SEG, SR)",
    "UIDs of studies in pull.db and page.db, notices/, and not-taken.csv: names of files may hold "
    "the patient's, delete it",
    "whatever was sent to the PACS or another node, and stores of other nodes",
    "copies: backups, snapshots, exported stores, packs in folders not named with --packs, exports "
    "named neither with --exports nor in harvest.exports, replicas of a bucket",
    "shards of a bucket, and packs of a store that was only read, in the cache of a training "
    "machine, until a training there opens it again",
    "models that were trained with the frames, their runs and pictures of them",
)
PatientID = Annotated[
    str,
    typer.Option(
        prompt="Patient ID",
        help="Patient ID (0010,0020); the Study Instance UID for a study without one. "
        "Asked for when not given, so that it need not stay in the shell's history.",
    ),
]
Exports = Annotated[
    list[str] | None,
    typer.Option(
        help="A folder or s3://BUCKET/PREFIX that 'train shards' exported to, beside those of "
        "harvest.exports; may be repeated.",
    ),
]


def places_of(settings: Config, exports: list[str] | None) -> list[str]:
    """Return the addresses of the exports that a site knows of, and of those that are named.

    Raises
    ------
    ConfigError
        When one is no address.
    """
    return [checked(one) for one in (*settings.harvest.exports, *(exports or []))]


def erase(  # noqa: PLR0913 (one parameter an option)
    patient_id: PatientID,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Do not take this patient in again.")
    ] = False,
    packs: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder that holds packs for training; may be repeated."),
    ] = None,
    *,
    exports: Exports = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Erase a patient's frames, labels, pseudonyms and notes, for good.

    The node may run: the erasure goes between two images of its harvest. It may be killed and
    given again. The images themselves stay; see docs/data.md for what else does.

    Example: dicom-node store erase --patient-id 4711 --refuse --config node.yaml
    """
    settings = load(config)
    data = settings.node.data
    # before anything is erased: a mistyped one is no export that cannot be reached
    places = places_of(settings, exports)
    with erasing_patient(patient_id, data=data) as erasure:
        if not yes:
            found = erasure.preview()
            typer.confirm(
                f"{found.frames} frames and {found.volumes} volumes of {found.studies} studies are "
                "erased, and "
                f"{found.labelled} frames lose a reader's labels. Go on?",
                abort=True,
                err=True,
            )
        erased, notes = erasure.run([data / PACKS, *(packs or [])], places, refuse=refuse)
    counts = asdict(erased) | {"notes": notes}
    if as_json:
        print_json(counts | {"refused": refuse, "not_erased": NOT_ERASED})
    else:
        _say(counts, erased, refuse=refuse)
    if erased.unreached:
        raise typer.Exit(1)


def _say(counts: dict[str, Any], erased: Erased, *, refuse: bool) -> None:
    counts.pop("unreached")
    rows = [[name.replace("_", " "), str(count)] for name, count in counts.items()]
    print_table("Erased", ["what", "count"], rows, empty="")
    typer.echo("Not erased:")
    for what in NOT_ERASED:
        typer.echo(f"- {what}")
    if not (erased.instances or erased.volumes):
        typer.echo("Nothing of this Patient ID was in the store: see that it is written right.")
    if not refuse:
        typer.echo("Images of this patient that are harvested again are stored again: --refuse.")
    for fault in erased.unreached:
        typer.echo(f"NOT FINISHED: {fault}", err=True)
    if erased.unreached:
        typer.echo(
            "These exports may hold the patient still: give the same command again, and name them "
            "in harvest.exports, where none is forgotten.",
            err=True,
        )


def accept(
    patient_id: PatientID, config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Take a patient in again whom 'store erase --refuse' kept out; what was erased stays erased.

    Studies that come from now on are harvested. One that came meanwhile is when more of it comes.

    Example: dicom-node store accept --patient-id 4711 --config node.yaml
    """
    was_refused = accept_patient(patient_id, data=load(config).node.data)
    if as_json:
        print_json({"was_refused": was_refused})
    elif was_refused:
        typer.echo("Images of this patient are taken in again.")
    else:
        typer.echo("This Patient ID was not refused: see that it is written right.")
