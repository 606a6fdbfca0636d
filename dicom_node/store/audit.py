"""Look for anything in a store that could identify somebody, and for what does not belong there."""

import itertools
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Geometry
from dicom_node.store import catalogue, files, places, readers, volumes
from dicom_node.store.catalogue_audit import additions, name_of
from dicom_node.store.finding import DIGEST, Finding
from dicom_node.store.label_sets import class_sets, label_sets
from dicom_node.store.readings import QUALITY, Observer, Origin, Software
from dicom_node.store.records import BEST_QUALITY, PROBE, RULE, Source
from dicom_node.store.split import SPLITS

#: Pseudonyms and digests have one length each: no number that a person or a device has is so long.
TOKEN = re.compile(r"[0-9a-f]{32}")
#: What each text column may hold, besides those of `_allowed_text`; text elsewhere is a finding.
ALLOWED_TEXT = {
    "instance": TOKEN,
    "series": TOKEN,
    "study": TOKEN,
    "patient": TOKEN,
    "description": TOKEN,
    "frame_id": DIGEST,
    "mask_digest": DIGEST,
    "volume_id": DIGEST,
    "made_of": TOKEN,
    "sequence": re.compile("|".join(volumes.SEQUENCES)),
    "plane": re.compile("|".join(volumes.PLANES)),
    **{f"{label}_rule": RULE for label in ("sequence", "plane", "contrast", "regions")},
    "reader": TOKEN,
    "object": TOKEN,
    "origin": re.compile("|".join(Origin)),
    "software": re.compile("|".join(Software)),
    "observer": re.compile("|".join(Observer)),
    "probe": PROBE,
    "geometry_rule": RULE,
    "term": TOKEN,
    "rule": RULE,
    "source": re.compile("|".join(Source)),
    "geometry": re.compile("|".join(geometry.value for geometry in Geometry)),
    "split": re.compile("|".join(SPLITS)),
}
#: Of an image's rows and columns (PS3.5 6.2: US).
_PIXELS = (0, 65535)
#: No cine is longer, and no date, ID or serial number of eight digits is as small.
_FRAMES = (1, 1_000_000)
#: What each number may be at most; `size_bytes` and `mask_bytes` are held against the files.
ALLOWED_NUMBERS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("rows", "columns", "left", "top", "right", "bottom"), _PIXELS),
    **dict.fromkeys(("height", "width"), _PIXELS),
    **dict.fromkeys(("frame_number", "number_of_frames"), _FRAMES),
    "stored_frames": (0, 1_000_000),
    **dict.fromkeys(("row_spacing_mm", "column_spacing_mm", "slice_spacing_mm"), (0, 1000)),
    # of a volume; no study ID or date is so small
    "number_of_slices": (1, 100_000),
    **dict.fromkeys(("regions", "regions_known"), (0, 2 ** len(volumes.REGIONS) - 1)),
    "contrast": (0, 1),
    **dict.fromkeys(("size_bytes", "mask_bytes"), (0, 2**63)),
    "groups": (0, 2 ** len(GROUPS) - 1),
    "quality": (0, BEST_QUALITY),
    "burned_in_annotation": (0, 1),
    "frame_time_s": (0, 60),
    # of readers: no image has so many objects that speak of it, and no set so many labels
    "place": (0, 100_000),
    "value": (0, 99),
    "labels": (0, 2**16 - 1),
    "superseded": (0, 1),
}
#: Says of a text column whether a word is one that the node itself writes.
Known = Mapping[str, Callable[[str], bool]]
#: Folders of the store; 256 of them share the pictures of a kind.
_PARENT = re.compile(rf"frames|masks|{volumes.FOLDER}|[0-9a-f]{{2}}")
_FOLDER = re.compile(rf"(frames|masks|{volumes.FOLDER})(/[0-9a-f]{{2}})?")
_FILE = re.compile(r"[0-9a-f]{64}\.png(\.\d+-\d+\.part)?")
#: A picture with any other chunk carries text, times or a profile (PNG, third edition, 11.3).
PNG_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND"})
#: What is to be done when a file is gone, by its folder.
LOST = {
    "frames": "missing; the next harvest of its study writes it again, which begins when one more "
    "object of it comes; or put it back from a backup",
    "masks": "missing; put it back from a backup, or import or send the reader's labels again",
    "volumes": "missing; put it back from a backup",
}


def audit(folder: Path, known: Known | None = None) -> list[Finding]:
    """Check every row and every file of a store.

    Parameters
    ----------
    folder : Path
        Of the store.
    known : mapping, optional
        The words of some text columns, as `dicom_node.harvest.vocabulary` has them. Without it a
        probe and a rule need only look like one.

    Raises
    ------
    StoreError
        When the folder holds no store.
    """
    if not places.is_store(folder):
        raise StoreError(
            f"{folder.name}: no store here (no {places.FILE} or {places.SERVER}); name its folder"
        )
    engine = catalogue.open_catalogue(folder)
    try:
        with for_reading(engine).begin() as connection:
            findings = [*_tables(connection, known or {}), *_without_mask(connection)]
            findings += [*_miscounted(connection), *_unfinished(connection)]
            expected = _expected(connection, folder)
    finally:
        engine.dispose()
    return findings + list(_files(folder, expected))


def _expected(connection: sa.Connection, folder: Path) -> dict[Path, tuple[str, int]]:
    """Return digest and size of each file that the catalogue names."""
    expected = {}
    for row in connection.execute(sa.select(catalogue.frames)):
        path = files.path_of(folder / "frames", row.frame_id)
        expected[path] = row.frame_id, row.size_bytes
        if row.mask_digest:
            path = files.path_of(folder / "masks", row.frame_id)
            expected[path] = row.mask_digest, row.mask_bytes
    for row in connection.execute(sa.select(volumes.volumes)):
        path = files.path_of(folder / volumes.FOLDER, row.volume_id)
        expected[path] = row.volume_id, row.size_bytes
    return expected


def _tables(connection: sa.Connection, known: Known) -> Iterator[Finding]:
    yield from additions(connection)
    where, allowed = name_of(connection), _allowed_text()
    found = sa.MetaData()
    found.reflect(connection)
    for name in found.tables:
        if name not in catalogue.metadata.tables:
            yield Finding(where=where, what="a table that is not the store's")
        # as it lies there: a type would turn any number into True
        every: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(sa.table(name))
        for place, row in enumerate(connection.execute(every).mappings(), start=1):
            for column, value in row.items():
                if column == readers.readings.c.mask_png.name and _is_mask(value):
                    continue
                fault = None if value is None else _misfit(column, value, allowed, known)
                if fault:
                    row_of = f"{where} {_named(name, column)}, row {place}"
                    yield Finding(where=row_of, what=fault)


def _named(table: str, column: str) -> str:
    """Return the name of a column, with "?" for what is no name of the store's."""
    columns = getattr(catalogue.metadata.tables.get(table), "c", None)
    if columns is None:
        return "?.?"
    return f"{table}.{column if column in columns else '?'}"


def _misfit(
    column: str, value: object, allowed: Mapping[str, re.Pattern[str]], known: Known
) -> str | None:
    """Return why a value does not belong into a column; never quotes it."""
    if isinstance(value, str | bytes):
        form = allowed.get(column)
        if form is None or isinstance(value, bytes) or not form.fullmatch(value):
            return f"text of {len(value)} characters, no token"
        if column in known and not known[column](value):
            return (
                f"text of {len(value)} characters, in no table of today; if a rule was "
                "changed, 'dicom-node labels map' brings the store up to it"
            )
        return None
    lowest, highest = ALLOWED_NUMBERS.get(column, (1, 0))
    if isinstance(value, int | float) and lowest <= value <= highest:
        return None
    return "a number that the store does not keep here"


def _without_mask(connection: sa.Connection) -> Iterator[Finding]:
    bytes_of_nothing = sa.select(sa.func.count()).where(
        catalogue.frames.c.mask_digest.is_(None), catalogue.frames.c.mask_bytes != 0
    )
    if connection.scalar(bytes_of_nothing):
        where = f"{name_of(connection)} frames.mask_bytes"
        yield Finding(where=where, what="a size without a mask")


def _miscounted(connection: sa.Connection) -> Iterator[Finding]:
    wrong = catalogue.instances.c.stored_frames != catalogue.STORED_FRAMES
    number = connection.scalar(
        sa.select(sa.func.count()).select_from(catalogue.instances).where(wrong)
    )
    if number:
        yield Finding(
            where=f"{name_of(connection)} instances.stored_frames",
            what=f"{number} row(s) whose number of frames is not that of their rows",
        )


def _unfinished(connection: sa.Connection) -> Iterator[Finding]:
    if connection.scalar(sa.select(sa.func.count()).select_from(catalogue.erasing)):
        yield Finding(
            where=f"{name_of(connection)} erasing",
            what="an erasure was interrupted; run 'dicom-node store erase' again to finish it",
        )


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


def _files(folder: Path, expected: Mapping[Path, tuple[str, int]]) -> Iterator[Finding]:
    """Compare the files with those that the catalogue names."""
    # a link to a folder is no folder of the store
    links = {path for path in folder.rglob("*") if path.is_symlink()}
    folders = {path for path in folder.rglob("*") if path.is_dir()} - links
    present = set(folder.rglob("*")) - folders
    if places.says_more(folder):
        what = "says more than where the catalogue is; leave 'url' and 'schema' alone in it"
        yield Finding(where=f"file {places.SERVER}", what=what)
    yield from _closed(folder, folders | {folder})
    for path in sorted(folders):
        if not _FOLDER.fullmatch(path.relative_to(folder).as_posix()):
            yield Finding(where=f"folder {_place(folder, path)}", what="not the store's; delete it")
    # which of both is the catalogue, and not a leftover of the other
    names = places.FILES if places.read(folder) is None else (places.SERVER,)
    catalogue_files = {folder / name for name in names}
    for path in sorted(present - set(expected) - catalogue_files | links):
        yield Finding(
            where=f"file {_place(folder, path)}",
            what="not named in the catalogue; delete it if no harvest is running",
        )
    for path, stated in sorted(expected.items()):
        lost = LOST[path.relative_to(folder).parts[0]]
        fault = _fault(path, *stated) if path in present else lost
        if fault:
            yield Finding(where=f"file {_place(folder, path)}", what=fault)


def _closed(folder: Path, folders: Iterable[Path]) -> Iterator[Finding]:
    """Yield folders whose files nobody sees here."""
    for path in sorted(folders):
        if not os.access(path, os.R_OK | os.X_OK):
            what = "this account may not look into it; run the audit as one that may"
            name = path.relative_to(folder).as_posix()
            is_known = _FOLDER.fullmatch(name) is not None
            yield Finding(where=f"folder {name if is_known else _place(folder, path)}", what=what)


def _place(folder: Path, path: Path) -> str:
    """Return a place, up to the first name that the store does not give: it may be a person's."""
    *parents, name = path.relative_to(folder).parts or ("",)
    known = [*itertools.takewhile(_PARENT.fullmatch, parents)]
    is_known = len(known) == len(parents) and _FILE.fullmatch(name)
    return "/".join([*known, name if is_known else "..."])


def _fault(path: Path, digest: str, size_bytes: int) -> str | None:
    try:
        content = path.read_bytes()
        if not set(_chunks(content)) <= PNG_CHUNKS:
            return "carries more than pixels"
        pixels = files.read(path)
    except (OSError, StoreError, struct.error):
        return "not readable as PNG"
    if files.digest(pixels) != digest:
        return "its pixels do not fit its digest"
    return None if len(content) == size_bytes else "its size is not the one in the catalogue"


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the names of a PNG's chunks, and ``b"tail"`` for bytes behind the last."""
    place = len(files.SIGNATURE)
    while place < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        yield name
        place += 12 + length
        if name == b"IEND":
            break
    if place != len(content):
        yield b"tail"
