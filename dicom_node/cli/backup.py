"""``dicom-node backup``: all that the node has, in one folder, while it runs."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json
from dicom_node.node.backup import Taken, back_up

app = typer.Typer(add_completion=False)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder; best on another disk.")],
    with_key: Annotated[
        bool, typer.Option("--with-key", help="The pseudonym key, too: who has both knows all.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Back the node up while it runs; the copy is read again before this ends.

    Example: dicom-node backup /mnt/backup/2026-01-01 --config node.yaml
    """
    settings = load(config)
    taken = back_up(settings, folder, with_key=with_key)
    if as_json:
        print_json(taken.about.model_dump() | {"linked": taken.linked, "took_s": taken.took_s})
        return
    about = taken.about
    typer.echo(
        f"{folder}: {about.files} files, {about.bytes / 2**30:.2f} GiB, as of {about.taken_at}, "
        f"in {taken.took_s:.0f} s; every file was read again"
    )
    for word in _words(taken):
        typer.echo(f"- {word}")


def _words(taken: Taken) -> list[str]:
    about = taken.about
    words = ["not in it: node.yaml, bundles, certificates and tokens; keep them, too"]
    if taken.linked:
        words.append(
            f"{taken.linked} files lie on the node's own disk, under a second name: they are lost "
            "with it until you copy the folder to another"
        )
    if not about.has_key and about.key_sha256:
        words.append(
            "not in it: pseudonym.key, which would turn the store's pseudonyms into patients; "
            "keep it in another place, a restore asks for it"
        )
    if about.jobs_elsewhere:
        words.append(
            "not in it: the jobs on the PostgreSQL server; take 'pg_dump --format=custom' of their "
            "database before each backup"
        )
    if about.gone:
        words.append(f"{about.gone} files that a database names were gone before")
    return words
