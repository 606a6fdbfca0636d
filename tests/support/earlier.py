"""A data folder as an earlier program wrote it: SQL dumps, and the files beside them.

``tests/dicom_node/node/earlier`` was written by the program of commit 8f2c11d (2026-11-21), before
layouts had a number: of four synthetic studies the first was worked on (its SR is delivered, its
SEG is owed), the job of the second was handed out and not begun, the third is open, and the file of
the fourth waits to be registered.
"""

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.conftest import REPOSITORY
from tests.torture.studies import Image, study

_FOLDER: Final = REPOSITORY / "tests" / "dicom_node" / "node" / "earlier"
#: Done, handed out, open, waiting.
IMAGES: Final[tuple[Image, ...]] = tuple(study(41, number)[0] for number in range(4))


def write_earlier(data: Path) -> None:
    """Write the data folder anew."""
    data.mkdir(mode=0o700)
    with zipfile.ZipFile(_FOLDER / "files.zip") as archive:
        archive.extractall(data)
    (data / "pseudonym.key").chmod(0o600)
    for dump in _FOLDER.glob("*.sql"):
        folder = data / "store" if dump.stem == "catalogue" else data
        folder.mkdir(exist_ok=True)
        with closing(sqlite3.connect(folder / f"{dump.stem}.db")) as connection:
            connection.executescript(dump.read_text("utf-8"))
            connection.execute("PRAGMA journal_mode=WAL")
