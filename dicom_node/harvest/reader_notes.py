"""The node's private notes on readers' objects: what became of each, their order, unmapped codes.

They stand in ``harvest.db`` beside the scanners' words, outside the store: times and the words of
codes never enter it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading
from dicom_node.harvest.reader_codes import ReaderCodes
from dicom_node.harvest.segmentations import SeenCode
from dicom_node.read_only import open_or_read
from dicom_node.store import Origin

_metadata = sa.MetaData()
_objects = sa.Table(
    "reader_objects",
    _metadata,
    #: SOP Instance UID, or the name of a row of a CSV
    sa.Column("name", sa.String, primary_key=True),
    #: "" of a row
    sa.Column("study_instance_uid", sa.String, nullable=False),
    #: pseudonyms in the store
    sa.Column("study", sa.String, nullable=False, index=True),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("object", sa.String, nullable=False, index=True),
    #: microseconds since 1970 UTC: when it says that it was made, and when it came
    sa.Column("said_us", sa.Integer, nullable=False),
    sa.Column("received_us", sa.Integer, nullable=False),
    sa.Column("fate", sa.String, nullable=False),
    #: readings in the store
    sa.Column("readings", sa.Integer, nullable=False),
    #: why something of it is not used, with how many
    sa.Column("reasons", sa.JSON, nullable=False),
)
_images = sa.Table(
    "reader_images",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("sop_instance_uid", sa.String, primary_key=True, index=True),
)
_codes = sa.Table(
    "reader_codes",
    _metadata,
    sa.Column("code", sa.String, primary_key=True),
    sa.Column("label", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("meaning", sa.String, nullable=False),
)
#: How far the objects of the index were looked at, and with which meanings of codes.
_progress = sa.Table(
    "reader_progress",
    _metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
    sa.Column("codes", sa.String, nullable=False),
)
#: Longer text is no LO (PS3.5 6.2) and is cut.
MOST_CHARACTERS: Final = 64
#: So many names are asked for at once.
_BATCH: Final = 500


class Fate(StrEnum):
    """What became of an object."""

    USED = "used"
    #: an image that it is about is not in the store yet
    WAITING = "waits for its images"
    NOT_USED = "not used"
    #: made by this node, or one like it
    OURS = "made by a dicom-node"
    #: erased, and not to be taken in again: it is counted, and nothing is noted
    REFUSED = "patient refused"


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What is known of one object."""

    name: str
    study_instance_uid: str
    origin: str
    #: pseudonyms in the store
    study: str
    object: str
    said_at: datetime
    received_at: datetime
    fate: Fate
    readings: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class UnmappedCode:
    """A code that nobody maps, and in how many objects it stands."""

    code: str
    label: str
    meaning: str
    objects: int


class ReaderNotes:
    """The notes in ``harvest.db``.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_or_read(path, _metadata, updated_by="dicom-node labels readers")
        self._reads = for_reading(self._engine)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def record(self, noted: Noted, images: Iterable[str], codes: Iterable[SeenCode] = ()) -> None:
        """Note an object, the images that it is about and its codes, in place of what was noted."""
        with self._engine.begin() as connection:
            _record(connection, noted, images, codes)

    def record_rows(self, rows: Sequence[tuple[Noted, str]]) -> None:
        """Note rows of a CSV, each with the image that it is about."""
        with self._engine.begin() as connection:
            for noted, image in rows:
                _record(connection, noted, [image], ())

    def order(self, image: str) -> list[str]:
        """Return the pseudonyms of the objects about an image, as they were made and then came."""
        query = (
            sa.select(_objects.c.object)
            .join(_images, _images.c.name == _objects.c.name)
            .where(_images.c.sop_instance_uid == image)
            .order_by(_objects.c.said_us, _objects.c.received_us, _objects.c.name)
        )
        with self._engine.begin() as connection:
            return list(connection.scalars(query))

    def about(self, images: Sequence[str]) -> list[str]:
        """Return the SOP Instance UIDs of the objects that wait for one of these images."""
        found: set[str] = set()
        with self._engine.begin() as connection:
            for start in range(0, len(images), _BATCH):
                batch = list(images[start : start + _BATCH])
                query = (
                    sa.select(_objects.c.name)
                    .join(_images, _images.c.name == _objects.c.name)
                    .where(_images.c.sop_instance_uid.in_(batch))
                    .where(_objects.c.fate == Fate.WAITING)
                )
                found.update(connection.scalars(query))
        return sorted(found)

    def objects(self) -> list[Noted]:
        """Return what is known of each SEG and SR, the latest first."""
        query = (
            sa.select(_objects)
            .where(_objects.c.origin != Origin.CSV)
            .order_by(_objects.c.received_us.desc(), _objects.c.name)
        )
        with self._reads.begin() as connection:
            return [_noted(row) for row in connection.execute(query)]

    def unmapped(self, codes: ReaderCodes) -> list[UnmappedCode]:
        """Return the codes that are not mapped, most frequent first."""
        objects = sa.func.count().label("objects")
        meaning = sa.func.max(_codes.c.meaning).label("meaning")
        query = (
            sa.select(_codes.c.code, _codes.c.label, meaning, objects)
            .group_by(_codes.c.code, _codes.c.label)
            .order_by(objects.desc(), _codes.c.code, _codes.c.label)
        )
        with self._reads.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            UnmappedCode(**row) for row in rows if codes.meaning(row["code"], row["label"]) is None
        ]

    def serial(self, codes: ReaderCodes) -> int:
        """Return how far the index was looked at; 0 when codes have other meanings since."""
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(_progress)).one_or_none()
        return row.serial if row is not None and row.codes == codes.fingerprint else 0

    def looked_at(self, serial: int, codes: ReaderCodes) -> None:
        """Note how far the index was looked at."""
        row = insert(_progress).values(one=1, serial=serial, codes=codes.fingerprint)
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["one"],
                    set_={"serial": row.excluded.serial, "codes": row.excluded.codes},
                )
            )

    def erase(self, studies: Iterable[str]) -> int:
        """Delete the notes on objects of some studies, and on rows about images of theirs.

        Parameters
        ----------
        studies : iterable of str
            Pseudonyms.

        Returns
        -------
        int
            How many objects were noted.
        """
        with self._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
            names: set[str] = set()
            for study in studies:
                of_study = _objects.c.study == study
                names.update(connection.scalars(sa.select(_objects.c.name).where(of_study)))
            for name in sorted(names):
                for table in (_objects, _images, _codes):
                    connection.execute(table.delete().where(table.c.name == name))
        return len(names)


def _record(
    connection: sa.Connection, noted: Noted, images: Iterable[str], codes: Iterable[SeenCode]
) -> None:
    for table in (_objects, _images, _codes):
        connection.execute(table.delete().where(table.c.name == noted.name))
    row = {
        "name": noted.name,
        "study_instance_uid": noted.study_instance_uid,
        "origin": noted.origin,
        "study": noted.study,
        "object": noted.object,
        "said_us": _us(noted.said_at),
        "received_us": _us(noted.received_at),
        "fate": noted.fate.value,
        "readings": noted.readings,
        "reasons": dict(noted.reasons),
    }
    connection.execute(_objects.insert().values(row))
    for uid in images:
        values = {"name": noted.name, "sop_instance_uid": uid}
        connection.execute(insert(_images).values(values).on_conflict_do_nothing())
    for seen in codes:
        values = {
            "name": noted.name,
            "code": seen.code[:MOST_CHARACTERS],
            "label": " ".join(seen.label.split())[:MOST_CHARACTERS],
            "meaning": seen.meaning[:MOST_CHARACTERS],
        }
        connection.execute(insert(_codes).values(values).on_conflict_do_nothing())


def _noted(row: Any) -> Noted:
    return Noted(
        name=row.name,
        study_instance_uid=row.study_instance_uid,
        origin=row.origin,
        study=row.study,
        object=row.object,
        said_at=datetime.fromtimestamp(row.said_us / 1e6, UTC),
        received_at=datetime.fromtimestamp(row.received_us / 1e6, UTC),
        fate=Fate(row.fate),
        readings=row.readings,
        reasons=row.reasons,
    )


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
