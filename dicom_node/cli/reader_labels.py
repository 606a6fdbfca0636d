"""``dicom-node labels readers`` and ``labels codes``: what became of readers' SEG and SR.

A researcher asks this of the whole store before a training, and by object, with the reason. So it
stands here and not in ``status``, which asks where one study's results are.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.harvest import Fate, ReaderNotes, load_reader_codes
from dicom_node.harvest.opening import NOTES
from dicom_node.node.layout import Layout
from dicom_node.store import WeakLabelStore

#: So many objects are shown; --json has them all.
SHOWN = 50
SUPERSEDED = "superseded"

OnlyUnused = Annotated[
    bool, typer.Option("--unused", help="Only those of which something is not used.")
]


def readers(
    unused: OnlyUnused = False, config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Say what became of the SEG and SR of readers, the latest first, and why some are not used.

    Example: dicom-node labels readers --unused --config node.yaml
    """
    rows = _objects(load(config))
    totals = Counter(row["state"] for row in rows)
    if unused:
        rows = [row for row in rows if row["reasons"]]
    if as_json:
        print_json(rows)
        return
    typer.echo(f"{sum(totals.values())} objects of readers: {_told(totals)}")
    print_table(
        "",
        ["object", "kind", "state", "labels", "not used"],
        [
            [
                row["sop_instance_uid"],
                row["kind"],
                row["state"],
                str(row["labels"]),
                _told(row["reasons"]),
            ]
            for row in rows[:SHOWN]
        ],
        empty="no SEG or SR of a reader came" if not totals else "nothing of them is unused",
    )
    if len(rows) > SHOWN:
        typer.echo(f"and {len(rows) - SHOWN} more; --json has them all")


def codes(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the codes in readers' SEG and SR that stand for nothing yet, the most frequent first.

    Their words are what somebody typed and may hold anything: for the eyes of the site only. Map
    them with a CSV (code,label,stands_for) named by harvest.reader_codes and start the node again:
    it looks at all objects again.

    Example: dicom-node labels codes --config node.yaml
    """
    settings = load(config)
    with _notes(settings) as notes:
        seen = notes.unmapped(load_reader_codes(settings.harvest.reader_codes))
    if as_json:
        print_json([vars(row) for row in seen])
        return
    print_table(
        "Codes that stand for nothing yet",
        ["code", "label", "meaning", "objects"],
        [[row.code, row.label, row.meaning, str(row.objects)] for row in seen],
        empty="every code is mapped",
    )


def _objects(config: Config) -> list[dict[str, Any]]:
    with _notes(config) as notes:
        noted = notes.objects()
    with WeakLabelStore(Layout(config.node.data).store) as store:
        superseded = store.readers.superseded()
    return [
        {
            "sop_instance_uid": one.name,
            "study_instance_uid": one.study_instance_uid,
            "kind": one.origin,
            "received_at": one.received_at.isoformat(timespec="seconds"),
            "state": (
                SUPERSEDED if one.fate is Fate.USED and one.object in superseded else one.fate.value
            ),
            "labels": one.readings,
            "reasons": dict(one.reasons),
        }
        for one in noted
    ]


def _told(counts: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "none"


@contextmanager
def _notes(config: Config) -> Iterator[ReaderNotes]:
    path: Path = config.node.data / NOTES
    if not path.exists():
        raise ConfigError(f"{path}: nothing harvested yet; start the node with 'dicom-node serve'")
    with closing(ReaderNotes(path)) as notes:
        yield notes
