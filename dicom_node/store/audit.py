"""Look for anything in a store that could identify somebody, and for what does not belong there."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dicom_node.errors import StoreError
from dicom_node.records import Geometry
from dicom_node.store import catalogue, files, readers
from dicom_node.store.label_sets import class_sets, label_sets
from dicom_node.store.readings import QUALITY, Observer, Origin, Software
from dicom_node.store.records import PROBE, PSEUDONYM, RULE
from dicom_node.store.split import SPLITS

#: What each text column may hold, besides those of `_allowed_text`; text elsewhere is a finding.
ALLOWED_TEXT = {
    "instance": PSEUDONYM,
    "series": PSEUDONYM,
    "study": PSEUDONYM,
    "patient": PSEUDONYM,
    "description": PSEUDONYM,
    "frame_id": PSEUDONYM,
    "mask_digest": PSEUDONYM,
    "reader": PSEUDONYM,
    "object": PSEUDONYM,
    "origin": re.compile("|".join(Origin)),
    "software": re.compile("|".join(Software)),
    "observer": re.compile("|".join(Observer)),
    "probe": PROBE,
    "geometry_rule": RULE,
    "geometry": re.compile("|".join(geometry.value for geometry in Geometry)),
    "split": re.compile("|".join(SPLITS)),
}
CATALOGUE_FILES = frozenset({"catalogue.db", "catalogue.db-wal", "catalogue.db-shm"})
#: A picture with any other chunk carries text, times or a profile (PNG, third edition, 11.3).
PNG_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND"})
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that should not be in the store."""

    #: table, column and row, or a file's place in the folder
    where: str
    #: never quotes what was found
    what: str


def audit(folder: Path) -> list[Finding]:
    """Check every row and every file of a store.

    Raises
    ------
    StoreError
        When the folder holds no store.
    """
    database = folder / "catalogue.db"
    if not database.is_file():
        raise StoreError(f"{folder.name}: no store here (no catalogue.db); name its folder")
    engine = catalogue.open_catalogue(database)
    try:
        with engine.begin() as connection:
            findings = list(_tables(connection))
            named = {
                row.frame_id: row.mask_digest
                for row in connection.execute(
                    sa.select(catalogue.frames.c.frame_id, catalogue.frames.c.mask_digest)
                )
            }
    finally:
        engine.dispose()
    expected = {files.path_of(folder / "frames", frame): frame for frame in named}
    expected |= {files.path_of(folder / "masks", f): mask for f, mask in named.items() if mask}
    return findings + list(_files(folder, expected))


def _tables(connection: sa.Connection) -> Iterator[Finding]:
    allowed = _allowed_text()
    found = sa.MetaData()
    found.reflect(connection)
    for name, table in found.tables.items():
        if name not in catalogue.metadata.tables:
            yield Finding(where="catalogue.db", what="a table that is not the store's")
        for place, row in enumerate(connection.execute(sa.select(table)).mappings(), start=1):
            for column, value in row.items():
                form = allowed.get(column)
                if column == readers.readings.c.mask_png.name and _is_mask(value):
                    continue
                if isinstance(value, str | bytes) and not (
                    form and isinstance(value, str) and form.fullmatch(value)
                ):
                    where = f"catalogue.db {name}.{column}, row {place}"
                    yield Finding(where=where, what=f"text of {len(value)} characters, no token")


def _is_mask(value: object) -> bool:
    """Whether bytes are a picture and nothing else."""
    try:
        if not isinstance(value, bytes) or not set(_chunks(value)) <= PNG_CHUNKS:
            return False
        readers.decoded(value)
    except (StoreError, struct.error):
        return False
    return True


def _allowed_text() -> dict[str, re.Pattern[str]]:
    classes = class_sets()
    names = {
        "label_set": list(label_sets()),
        "class_set": list(classes),
        "class_name": [name for one in classes.values() for name in one.names],
    }
    names["about"] = [QUALITY, *names["label_set"], *names["class_set"]]
    return ALLOWED_TEXT | {column: re.compile("|".join(known)) for column, known in names.items()}


def _files(folder: Path, expected: dict[Path, str]) -> Iterator[Finding]:
    """Compare the files with those that the catalogue names; `expected` holds their digests."""
    present = {path for path in folder.rglob("*") if not path.is_dir()}
    catalogue_files = {folder / name for name in CATALOGUE_FILES}
    for path in sorted(present - set(expected) - catalogue_files):
        yield Finding(
            where=f"file {_place(folder, path)}",
            what="not named in the catalogue; delete it if no harvest is running",
        )
    for path, digest in sorted(expected.items()):
        fault = _fault(path, digest) if path in present else "missing; harvest it again"
        if fault:
            yield Finding(where=f"file {_place(folder, path)}", what=fault)


def _place(folder: Path, path: Path) -> str:
    """Return a file's place, with a name that is no token left out: it may be a person's."""
    known = re.fullmatch(r"[0-9a-f]{64}\.png(\.\d+-\d+\.part)?", path.name)
    return (path if known else path.parent / "...").relative_to(folder).as_posix()


def _fault(path: Path, digest: str) -> str | None:
    try:
        if not set(_chunks(path.read_bytes())) <= PNG_CHUNKS:
            return "carries more than pixels"
        pixels = files.read(path)
    except (OSError, StoreError, struct.error):
        return "not readable as PNG"
    return None if files.digest(pixels) == digest else "its pixels do not fit its digest"


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the names of a PNG's chunks, and ``b"tail"`` for bytes behind the last."""
    place = len(PNG_SIGNATURE)
    while place < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        yield name
        place += 12 + length
        if name == b"IEND":
            break
    if place != len(content):
        yield b"tail"
