"""Which files the databases of a data folder name."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dicom_node.errors import PermanentError
from dicom_node.node.layout import Layout
from dicom_node.results.masks import mask_of
from dicom_node.store import places


def named_files(data: Path) -> Iterator[tuple[str, ...]]:
    """Yield, for each file that a database names, where it may lie, relative to `data`.

    Raises
    ------
    PermanentError
        When a database is damaged.
    """
    layout = Layout(data)
    for path, file_id in _rows(layout.index, "SELECT path, file_id FROM instance"):
        name = f"{file_id}.dcm"
        yield path, f"inbox/new/{name}", f"inbox/quarantine/{name}"
    for (name,) in _rows(layout.outbox, "SELECT file_name FROM result"):
        # of a still that is part of a SEG to come, or of one, there is a mask alone
        mask = mask_of(Path(name)).as_posix()
        yield f"results/{name}", f"results/{mask}"
    for (name,) in _rows(layout.store / places.FILE, "SELECT frame_id FROM frames"):
        yield (f"store/frames/{name[:2]}/{name}.png",)
    # a catalogue of before has none
    is_there = "SELECT name FROM sqlite_master WHERE name = 'volumes'"
    if any(_rows(layout.store / places.FILE, is_there)):
        for (name,) in _rows(layout.store / places.FILE, "SELECT volume_id FROM volumes"):
            yield (f"store/volumes/{name[:2]}/{name}.png",)


def must_be_sound(path: Path) -> None:
    """Pass when a database that nobody else has open can be read to its end.

    Raises
    ------
    PermanentError
    """
    found = [row[0] for row in _rows(path, "PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise PermanentError(f"{path.name} is damaged ({found[0]}): see docs/operations.md")


def _rows(path: Path, question: str) -> Iterator[tuple[str, ...]]:
    if not path.exists():
        return
    # no file is to appear beside it
    uri = f"{path.absolute().as_uri()}?immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            yield from connection.execute(question)
    except sqlite3.DatabaseError as exc:
        raise PermanentError(f"{path.name} is damaged ({exc}): see docs/operations.md") from None
