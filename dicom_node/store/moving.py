"""Move a store's catalogue from one engine to the other; may be killed and repeated at any time.

All rows are copied and compared before the file that names the place is replaced. What is being
filled, and what is to be deleted, have their names in files of their own meanwhile, so that no
server keeps what a move left that was killed.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.store import catalogue, files, locks, places, queries
from dicom_node.store.places import Place
from dicom_node.store.server import drop

#: SQLite's new file, and what may lie beside it.
_PART: Final = f"{places.FILE}.part"
_PARTS: Final = (_PART, f"{_PART}-wal", f"{_PART}-shm", f"{_PART}-journal")
#: So many rows are written at once.
_AT_ONCE: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a move found, and where it is now."""

    where: str
    #: of the frames, before and after
    version: str
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What stands in the tables, in whatever order."""

    rows: Counter[str]
    digests: Counter[str]


def move(folder: Path, url: str | None) -> Moved:
    """Move the catalogue of a store; nobody may have the store open for writing.

    Parameters
    ----------
    folder : Path
        Of the store.
    url : str or None
        The server; None is a file in the store.

    Raises
    ------
    StoreError
        When there is no store, the URL is none, or the copy is not the same as the original.
    DatabaseDownError
        When a server or the disk cannot be used now; repeat it.
    """
    if not places.is_store(folder):
        raise StoreError(f"{folder}: no store here; name the folder that the node harvests into")
    to = None if url is None else places.new(url)
    with locks.alone(folder):
        _clean(folder)
        here = places.read(folder)
        if (here.url if here else None) != url:
            _move(folder, here, to)
            _clean(folder)
    engine = catalogue.open_catalogue(folder)
    try:
        with engine.begin() as connection:
            rows = {
                name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for name, table in catalogue.metadata.tables.items()
            }
            version = queries.version(connection)
    finally:
        engine.dispose()
    return Moved(where=places.shown(folder), version=version, rows=rows)


def copy_to_file(folder: Path, target: Path) -> None:
    """Write the catalogue of a store, as of one moment, into a new SQLite file.

    Parameters
    ----------
    folder : Path
        Of the store, which may be written to meanwhile.
    target : Path
        There is no such file yet.

    Raises
    ------
    StoreError
        When the copy is not the same as the original.
    """
    source = catalogue.open_catalogue(folder)
    try:
        with for_reading(source).begin() as rows:
            _fill(rows, target)
    finally:
        source.dispose()


def _move(folder: Path, here: Place | None, to: Place | None) -> None:
    source = catalogue.open_catalogue(folder)
    try:
        # who has it open waits, and finds then that it has moved
        with source.begin() as rows:
            if here is not None:
                places.write(folder, places.LEFT, here)
            if to is None:
                _fill(rows, folder / _PART)
                (folder / _PART).replace(folder / places.FILE)
                files.sync(folder)
                (folder / places.SERVER).unlink()
            else:
                places.write(folder, places.COMING, to)
                _fill(rows, to)
                (folder / places.COMING).replace(folder / places.SERVER)
            files.sync(folder)
    finally:
        source.dispose()


def _fill(rows: sa.Connection, target: Path | Place) -> None:
    """Copy all rows, and read them again."""
    engine = catalogue.opened(target)
    try:
        with engine.begin() as connection:
            read = _copied(rows, connection)
        with for_reading(engine).begin() as connection:
            if _seen(connection) != read:
                raise StoreError(
                    "the copy of the catalogue is not the same as the original: nothing was "
                    "moved; run 'dicom-node store audit', then try again"
                )
    finally:
        # SQLite writes its log into the file
        engine.dispose()
    if isinstance(target, Path):
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _copied(source: sa.Connection, target: sa.Connection) -> _Seen:
    seen = _Seen(rows=Counter(), digests=Counter())
    for table in catalogue.metadata.sorted_tables:
        for part in _parts(source, table):
            target.execute(sa.insert(table), [dict(row) for row in part])
            _note(seen, table.name, part)
    return seen


def _seen(connection: sa.Connection) -> _Seen:
    seen = _Seen(rows=Counter(), digests=Counter())
    for table in catalogue.metadata.sorted_tables:
        for part in _parts(connection, table):
            _note(seen, table.name, part)
    return seen


def _parts(connection: sa.Connection, table: sa.Table) -> Iterator[Sequence[sa.RowMapping]]:
    found = connection.execute(sa.select(table), execution_options={"yield_per": _AT_ONCE})
    yield from found.mappings().partitions()


def _note(seen: _Seen, table: str, part: Sequence[sa.RowMapping]) -> None:
    seen.rows[table] += len(part)
    for row in part:
        digest = hashlib.sha256(repr(tuple(row.values())).encode()).digest()
        # the engines give rows in orders of their own
        seen.digests[table] += int.from_bytes(digest[:16])


def _clean(folder: Path) -> None:
    """Delete what an earlier move left, here and on servers."""
    here = places.read(folder)
    for name in (places.COMING, places.LEFT):
        place = places.read(folder, name)
        if place is not None and place != here:
            drop(place)
        (folder / name).unlink(missing_ok=True)
    left = {*folder.glob("catalogue.*.part"), *(folder / name for name in _PARTS)}
    if here is not None:
        left |= {folder / name for name in places.FILES}
    for path in left:
        path.unlink(missing_ok=True)
    files.sync(folder)
