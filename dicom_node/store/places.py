"""Where the catalogue of a store is: a file in its folder, or a schema of a PostgreSQL server.

``catalogue.json`` names server and schema, and no secret; where there is none, the catalogue is
``catalogue.db``. Which of both holds changes in one rename.
"""

import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from dicom_node.errors import StoreError
from dicom_node.store import files

FILE: Final = "catalogue.db"
#: With what SQLite puts beside it.
FILES: Final = (FILE, f"{FILE}-wal", f"{FILE}-shm")
SERVER: Final = "catalogue.json"
#: While a catalogue moves: what is being filled, and what is to be deleted.
COMING: Final = "catalogue.coming.json"
LEFT: Final = "catalogue.left.json"
#: Of all files that name a place.
NAMES: Final = (SERVER, COMING, LEFT)
_SCHEMA: Final = re.compile(r"dicom_node_store_[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A schema of a PostgreSQL server.

    Raises
    ------
    StoreError
        When the URL is none, or holds a password; when the schema is not a store's.
    """

    #: postgresql://USER@HOST/DATABASE; what it says of TLS is libpq's
    url: str
    schema: str

    def __post_init__(self) -> None:
        if fault := fault_of(self.url):
            raise StoreError(fault)
        if not _SCHEMA.fullmatch(self.schema):
            raise StoreError(f"{SERVER}: names no schema of a store; put it back from a backup")


def new(url: str) -> Place:
    """Return a place on a server that no store has."""
    return Place(url=url, schema=f"dicom_node_store_{secrets.token_hex(6)}")


def fault_of(url: str) -> str:
    """Say why a URL is no address of a catalogue, "" when it is one; quotes no password."""
    try:
        parts = sa.make_url(url)
    except sa.exc.ArgumentError:
        parts = None
    if parts is None or parts.drivername != "postgresql" or not parts.database:
        return "the catalogue's server is not named postgresql://USER@HOST/DATABASE"
    if parts.password is not None or "password" in parts.query:
        return (
            "the URL of the catalogue's server holds a password, and stands in the store's folder: "
            "take it out, and put it into the file that PGPASSFILE names, or into PGPASSWORD"
        )
    return ""


def is_store(folder: Path) -> bool:
    """Whether a folder holds a store.

    Raises
    ------
    StoreError
        When this account may not look into it.
    """
    try:
        return any((folder / name).is_file() for name in (SERVER, FILE))
    except PermissionError:
        raise StoreError(
            f"{folder}: this account may not look into it; as the account that owns it, give "
            "'chmod -R g+rX' to the folder, and share its group"
        ) from None


def shown(folder: Path) -> str:
    """Return where a store's catalogue is, for people."""
    place = read(folder)
    return FILE if place is None else f"{place.url}, schema {place.schema}"


def read(folder: Path, name: str = SERVER) -> Place | None:
    """Return the place that a file names, None where there is no such file.

    Raises
    ------
    StoreError
        When it is damaged.
    """
    try:
        found = json.loads((folder / name).read_text("utf-8"))
        return Place(url=str(found["url"]), schema=str(found["schema"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{name}: is damaged; put it back from a backup") from None


def says_more(folder: Path) -> bool:
    """Whether the file that names the place has anything else in it."""
    place = read(folder)
    return place is not None and (folder / SERVER).read_text("utf-8") != _text(place)


def found(folder: Path, new_on: str | None) -> Place | None:
    """Return where the catalogue is; a store that is not there yet gets its place.

    Parameters
    ----------
    folder : Path
        Of the store.
    new_on : str or None
        The server of a store that begins here; None is a file.
    """
    if new_on is not None and not is_store(folder):
        part = _part(folder, SERVER, new(new_on))
        try:
            # of two that begin the store at once, one finds the other's
            with suppress(FileExistsError):
                (folder / SERVER).hardlink_to(part)
        finally:
            part.unlink()
        files.sync(folder)
    return read(folder)


def write(folder: Path, name: str, place: Place) -> None:
    """Let a file name a place, durably, and whole or not at all."""
    _part(folder, name, place).replace(folder / name)
    files.sync(folder)


def _part(folder: Path, name: str, place: Place) -> Path:
    part = folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_text(place))
        file.flush()
        os.fsync(file.fileno())
    return part


def _text(place: Place) -> str:
    return f"{json.dumps(asdict(place), indent=1)}\n"
