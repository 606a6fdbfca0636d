"""The readings of a store: who said what of which frame, and what of it teaches.

The table keeps what each object says, mask included, so that readers can be compared and an earlier
word stands again when a later one goes. The columns of `catalogue.frames` hold what is heard. A
row goes with its instance: erasing a patient takes his readings along.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.store import files, locks
from dicom_node.store.catalogue import frames, instances, metadata, sightings
from dicom_node.store.columns import TEXT
from dicom_node.store.label_sets import class_sets, label_sets
from dicom_node.store.readings import (
    QUALITY,
    Observer,
    Origin,
    Provenance,
    Reading,
    Software,
    StoredReading,
    Word,
    heard,
    living,
)
from dicom_node.store.records import BEST_QUALITY

readings = sa.Table(
    "readings",
    metadata,
    sa.Column(
        "instance", sa.ForeignKey("instances.instance", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("frame_number", sa.Integer, primary_key=True),
    sa.Column("about", TEXT, primary_key=True),
    sa.Column("object", TEXT, primary_key=True),
    sa.Column("reader", TEXT, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("origin", TEXT, nullable=False),
    sa.Column("software", TEXT, nullable=False),
    sa.Column("observer", TEXT, nullable=False),
    sa.Column("value", sa.Integer),
    #: PNG; it goes with its row, which a file would not
    sa.Column("mask_png", sa.LargeBinary),
    #: bit i stands for the mask's value i
    sa.Column("labels", sa.Integer, nullable=False),
    #: whether the reader said later something else of all that its object says of the instance
    sa.Column("superseded", sa.Boolean, nullable=False),
)

#: Columns of `frames` by what a word is about.
_COLUMNS = {
    "quality": ("quality",),
    "mask": ("mask_digest", "mask_bytes", "label_set"),
    "class": ("class_set", "class_name"),
}
_EMPTY: Mapping[str, Any] = {"mask_bytes": 0}


class ReaderBook:
    """The readings of a store, as `WeakLabelStore.readers`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        An open catalogue.
    folder : Path
        Of the store.
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine, self._folder, self._masks = engine, folder, folder / "masks"
        self._reads = for_reading(engine)

    def stored_numbers(self, instance: str) -> frozenset[int]:
        """Return the 1-based numbers of the frames that are known of an instance's pseudonym."""
        query = sa.select(sightings.c.frame_number).where(sightings.c.instance == instance)
        with self._engine.begin() as connection:
            return frozenset(connection.scalars(query))

    def study_of(self, instance: str) -> str | None:
        """Return the pseudonym of an instance's study, None where the instance is not known."""
        query = sa.select(instances.c.study).where(instances.c.instance == instance)
        with self._engine.begin() as connection:
            return connection.scalar(query)

    def put(
        self,
        instance: str,
        provenance: Provenance,
        said: Sequence[Reading],
        *,
        order: Sequence[str] = (),
        adds: bool = False,
    ) -> None:
        """Note all that an object says of an instance, in place of what it said before.

        Parameters
        ----------
        instance : str
            Pseudonym.
        provenance : Provenance
        said : sequence of Reading
            Of stored frames; none where the object turned out to say nothing.
        order : sequence of str
            Pseudonyms of the objects that speak of the instance, the oldest first. Those that are
            not among them are older than all of these; this object is the newest where it is not.
        adds : bool
            Keep what the object said before of other kinds (quality, masks, classes).

        Raises
        ------
        StoreError
            When a frame is not stored, or a label does not fit it.
        TemporaryError
            When the disk does not take it.
        """
        with locks.adding(self._folder), self._engine.begin() as connection:
            shown = _shown(connection, instance)
            for one in said:
                _check(connection, shown.get(one.frame_number), one)
            before = _spoken_of(connection, instance)
            of_object = readings.c.object == provenance.object
            gone = [readings.c.instance == instance, of_object]
            if adds:
                kinds = {kind_of(one.about) for one in said}
                gone.append(readings.c.about.in_([a for _, a in before if kind_of(a) in kinds]))
            connection.execute(readings.delete().where(*gone))
            if said:
                connection.execute(
                    readings.insert(), [_row(instance, provenance, one) for one in said]
                )
            _set_places(connection, instance, order, newest=provenance.object)
            orphans = self._settle(connection, instance, shown, before)
        for frame_id in orphans:
            files.path_of(self._masks, frame_id).unlink(missing_ok=True)

    def of(self, instance: str) -> list[StoredReading]:
        """Return what was said of an instance's pseudonym, the oldest object first."""
        with self._reads.begin() as connection:
            return _rows(connection, instance)

    def superseded(self) -> frozenset[str]:
        """Return the objects of which nothing holds any more because their reader spoke later."""
        every = sa.func.min(sa.cast(readings.c.superseded, sa.Integer))
        query = sa.select(readings.c.object).group_by(readings.c.object).having(every == 1)
        with self._reads.begin() as connection:
            return frozenset(connection.scalars(query))

    def _settle(
        self,
        connection: sa.Connection,
        instance: str,
        shown: Mapping[int, str],
        before: Sequence[tuple[int, str]],
    ) -> list[str]:
        """Write what is heard now into the frames; return those that have no mask any more."""
        now = _rows(connection, instance)
        words = heard(now)
        connection.execute(
            readings.update()
            .where(readings.c.instance == instance)
            .values(superseded=readings.c.object.not_in(living(words)))
        )
        orphans = []
        places = [(one.reading.frame_number, one.reading.about) for one in now]
        for frame_id, kinds in _touched(shown, (*before, *places)).items():
            spoken = _spoken(connection, frame_id, instance, words)
            values = _write(connection, self._masks, frame_id, kinds, spoken)
            if "mask" in kinds and values["mask_digest"] is None:
                orphans.append(frame_id)
        return orphans


def hear_again(connection: sa.Connection, folder: Path, frame_ids: Iterable[str]) -> None:
    """Write into frames that have no labels what is still said of them.

    A frame of which a damaged mask is said stays without: `store audit` names it.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    folder : Path
        Of the store.
    frame_ids : iterable of str

    Raises
    ------
    TemporaryError
        When the disk does not take a mask.
    """
    for frame_id in frame_ids:
        try:
            spoken = _spoken(connection, frame_id, "", {})
        except StoreError:  # no reason to keep the patient
            continue
        _write(connection, folder / "masks", frame_id, frozenset(_COLUMNS), spoken)


def said_of(frame_id: sa.ColumnElement[str], *of: sa.ColumnElement[bool]) -> sa.Exists:
    """Return the condition that something is said of a frame, on sightings that are `of` it."""
    return sa.exists().where(
        sightings.c.frame_id == frame_id,
        readings.c.instance == sightings.c.instance,
        readings.c.frame_number == sightings.c.frame_number,
        *of,
    )


def _write(
    connection: sa.Connection,
    masks: Path,
    frame_id: str,
    kinds: frozenset[str],
    spoken: Sequence[Word],
) -> dict[str, Any]:
    """Write words into the columns of a frame, and return these; the last of each kind wins."""
    values = {name: _EMPTY.get(name) for kind in kinds for name in _COLUMNS[kind]}
    for word in {kind_of(word.about): word for word in spoken}.values():
        values |= _columns(masks, frame_id, word)
    connection.execute(frames.update().where(frames.c.frame_id == frame_id).values(values))
    return values


def _columns(masks: Path, frame_id: str, word: Word) -> dict[str, Any]:
    if word.about == QUALITY:
        return {"quality": word.value}
    if word.mask is None:
        names = class_sets()[word.about].names
        return {"class_set": word.about, "class_name": names[word.value or 0]}
    size_bytes = files.write(files.path_of(masks, frame_id), word.mask)
    return {
        "mask_digest": files.digest(word.mask),
        "mask_bytes": size_bytes,
        "label_set": word.about,
    }


def kind_of(about: str) -> str:
    """Return which columns of a frame a word is for."""
    if about == QUALITY:
        return "quality"
    return "mask" if about in label_sets() else "class"


def _shown(connection: sa.Connection, instance: str) -> dict[int, str]:
    query = sa.select(sightings.c.frame_number, sightings.c.frame_id).where(
        sightings.c.instance == instance
    )
    return {row.frame_number: row.frame_id for row in connection.execute(query)}


def _spoken_of(connection: sa.Connection, instance: str) -> list[tuple[int, str]]:
    """Return which frames of an instance were spoken of, and about what."""
    query = sa.select(readings.c.frame_number, readings.c.about).distinct()
    rows = connection.execute(query.where(readings.c.instance == instance))
    return [(row.frame_number, row.about) for row in rows]


def _touched(
    shown: Mapping[int, str], places: Iterable[tuple[int, str]]
) -> dict[str, frozenset[str]]:
    """Return the frames that were or are spoken of, with the kinds of columns."""
    found: dict[str, frozenset[str]] = {}
    for number, about in places:
        frame_id = shown.get(number)
        if frame_id is not None:
            found[frame_id] = found.get(frame_id, frozenset()) | {kind_of(about)}
    return found


def _spoken(
    connection: sa.Connection, frame_id: str, instance: str, words: Mapping[int, Sequence[Word]]
) -> list[Word]:
    """Return the words on the pixels of a frame, the one to be heard last.

    Pixels may be shown more than once. What was said of this instance is heard after what was said
    of others, and what was said of the very frame after what was said of one like it.
    """
    query = sa.select(sightings.c.instance, sightings.c.frame_number).where(
        sightings.c.frame_id == frame_id
    )
    own = sa.select(frames.c.instance, frames.c.frame_number).where(frames.c.frame_id == frame_id)
    very = tuple(connection.execute(own).one())
    places = sorted(
        (tuple(row) for row in connection.execute(query)),
        key=lambda place: (place[0] == instance, place == very, place),
    )
    found: list[Word] = []
    for other, number in places:
        said = words if other == instance else heard(_rows(connection, other))
        found += said.get(number, ())
    return found


def _rows(connection: sa.Connection, instance: str) -> list[StoredReading]:
    query = (
        sa.select(readings)
        .where(readings.c.instance == instance)
        .order_by(readings.c.place, readings.c.object, readings.c.frame_number, readings.c.about)
    )
    return [_stored(row) for row in connection.execute(query)]


def _set_places(
    connection: sa.Connection, instance: str, order: Sequence[str], *, newest: str
) -> None:
    of_instance = readings.c.instance == instance
    known = sa.select(readings.c.object, sa.func.max(readings.c.place).label("place"))
    rows = connection.execute(known.where(of_instance).group_by(readings.c.object)).all()
    ranked = {name: rank for rank, name in enumerate(order)}
    ranked.setdefault(newest, len(ranked))
    ordered = sorted(rows, key=lambda row: (ranked.get(row.object, -1), row.place, row.object))
    for place, row in enumerate(ordered, start=1):
        if row.place != place:
            connection.execute(
                readings.update()
                .where(of_instance, readings.c.object == row.object)
                .values(place=place)
            )


def _check(connection: sa.Connection, frame_id: str | None, one: Reading) -> None:
    if frame_id is None:
        raise StoreError(
            f"frame {one.frame_number} of the instance is not stored; harvest it first"
        )
    if one.mask is None:
        count = BEST_QUALITY + 1 if one.about == QUALITY else len(class_sets()[one.about].names)
        if one.value is None or not 0 <= one.value < count:
            raise StoreError(f"{one.about} {one.value} is not 0 to {count - 1}")
        return
    query = sa.select(frames.c.height, frames.c.width).where(frames.c.frame_id == frame_id)
    shape = tuple(connection.execute(query).one())
    if one.mask.dtype != np.uint8 or one.mask.shape != shape:
        raise StoreError(f"the mask is {one.mask.dtype} {one.mask.shape}, the frame uint8 {shape}")
    names = label_sets()[one.about].names
    if one.mask.max(initial=0) > len(names):
        known = ", ".join(f"{value} {name}" for value, name in enumerate(names, start=1))
        raise StoreError(
            f"the mask holds the value {one.mask.max()}; the label set {one.about} has 0 "
            f"background, {known}: write those, or name another label set"
        )


def _row(instance: str, provenance: Provenance, one: Reading) -> dict[str, Any]:
    return {
        "instance": instance,
        "frame_number": one.frame_number,
        "about": one.about,
        "object": provenance.object,
        "reader": provenance.reader,
        "place": 0,
        "origin": provenance.origin.value,
        "software": provenance.software.value,
        "observer": provenance.observer.value,
        "value": one.value,
        "mask_png": None if one.mask is None else _encoded(one.mask),
        "labels": sum(1 << label for label in one.labels),
        "superseded": False,
    }


def _stored(row: Any) -> StoredReading:
    labels = frozenset(bit for bit in range(row.labels.bit_length()) if row.labels >> bit & 1)
    return StoredReading(
        reading=Reading(
            frame_number=row.frame_number,
            about=row.about,
            value=row.value,
            mask=None if row.mask_png is None else decoded(row.mask_png),
            labels=labels,
        ),
        provenance=Provenance(
            reader=row.reader,
            object=row.object,
            origin=Origin(row.origin),
            software=Software(row.software),
            observer=Observer(row.observer),
        ),
        place=row.place,
    )


def _encoded(mask: NDArray[np.uint8]) -> bytes:
    png = BytesIO()
    Image.fromarray(mask).save(png, "PNG", compress_level=1)
    return png.getvalue()


def decoded(png: bytes) -> NDArray[np.uint8]:
    """Return a mask of the table.

    Raises
    ------
    StoreError
        When it is damaged.
    """
    try:
        with Image.open(BytesIO(png), formats=("PNG",)) as image:
            return np.array(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoreError(
            f"a reader's mask cannot be read from the store ({type(exc).__name__}); "
            "run 'dicom-node store audit'"
        ) from None
