"""Stores whose catalogue is in SQLite or in PostgreSQL, for the same tests."""

from pathlib import Path

import sqlalchemy as sa

from dicom_node.store import places
from dicom_node.store.catalogue import opened


def begin_on(folder: Path, url: str) -> None:
    """Let a store that is not there yet have its catalogue on a server."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    places.found(folder, url)


def edit(folder: Path, *statements: str, **values: object) -> None:
    """Change a catalogue as somebody does who knows nothing of the store; names stand as :name."""
    place = places.read(folder)
    engine = opened(folder / places.FILE if place is None else place)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement), values)
    engine.dispose()
