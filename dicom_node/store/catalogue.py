"""The tables of the catalogue, in a SQLite file or in PostgreSQL.

A frame is known by its pixels: where another instance, or a frozen cine, shows the same pixels
again, only a row of `sightings` is added.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import DatabaseDownError, StoreError
from dicom_node.read_only import need_columns, only_reads, open_or_read
from dicom_node.records import GROUPS, Geometry
from dicom_node.store import places
from dicom_node.store.columns import TEXT, if_absent
from dicom_node.store.label_sets import DEFAULT_LABEL_SET
from dicom_node.store.places import Place
from dicom_node.store.records import NewFrame, Sighting, StoredFrame
from dicom_node.store.server import open_server
from dicom_node.store.split import split_of

metadata = sa.MetaData()

#: A former program would add frames and not count them.
LAYOUT: Final = 2
#: Opens a catalogue for writing, and does nothing else to it.
_UPDATED_BY: Final = "dicom-node store info"

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("instance", TEXT, primary_key=True),
    sa.Column("series", TEXT, nullable=False),
    sa.Column("study", TEXT, nullable=False, index=True),
    sa.Column("patient", TEXT, nullable=False, index=True),
    sa.Column("split", TEXT, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("columns", sa.Integer, nullable=False),
    sa.Column("left", sa.Integer, nullable=False),
    sa.Column("top", sa.Integer, nullable=False),
    sa.Column("right", sa.Integer, nullable=False),
    sa.Column("bottom", sa.Integer, nullable=False),
    sa.Column("probe", TEXT),
    sa.Column("geometry", TEXT, nullable=False),
    sa.Column("geometry_rule", TEXT, nullable=False),
    #: bit i stands for records.GROUPS[i]
    sa.Column("groups", sa.Integer, nullable=False),
    sa.Column("description", TEXT, index=True),
    sa.Column("row_spacing_mm", sa.Float),
    sa.Column("column_spacing_mm", sa.Float),
    sa.Column("burned_in_annotation", sa.Boolean, nullable=False),
    #: of the whole clip, and from one of its frames to the next; null where that is not known
    sa.Column("number_of_frames", sa.Integer),
    sa.Column("frame_time_s", sa.Float),
    #: rows of `frames` that are this instance's: to count them takes ten times as long
    sa.Column("stored_frames", sa.Integer, nullable=False, server_default="0"),
    # what frames are chosen and counted by, without reading the rows
    sa.Index(
        "instances_by_labels_counted", "geometry", "split", "groups", "stored_frames", "instance"
    ),
)

frames = sa.Table(
    "frames",
    metadata,
    sa.Column("frame_id", TEXT, primary_key=True),
    sa.Column("instance", sa.ForeignKey("instances.instance"), nullable=False, index=True),
    sa.Column("frame_number", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("quality", sa.Integer),
    sa.Column("mask_digest", TEXT),
    sa.Column("mask_bytes", sa.Integer, nullable=False, server_default="0"),
    #: names of `label_sets`: what the mask's values show, and what the frame is
    sa.Column("label_set", TEXT),
    sa.Column("class_set", TEXT),
    sa.Column("class_name", TEXT),
)
#: Few frames have a reader's label: these indexes hold them alone.
_LABELLED = [
    sa.Index(
        f"frames_with_{label.name}",
        label,
        sqlite_where=label.is_not(None),
        postgresql_where=label.is_not(None),
    )
    for label in (frames.c.quality, frames.c.mask_digest, frames.c.class_name)
]

sightings = sa.Table(
    "sightings",
    metadata,
    sa.Column("instance", sa.ForeignKey("instances.instance"), primary_key=True),
    sa.Column("frame_number", sa.Integer, primary_key=True),
    sa.Column("frame_id", sa.ForeignKey("frames.frame_id"), nullable=False, index=True),
)

#: Frames of an erasure that has begun and not ended: packs and exports that hold them
#: are still to be deleted.
erasing = sa.Table(
    "erasing",
    metadata,
    sa.Column("frame_id", TEXT, primary_key=True),
)

#: Statements of every frame, made once: making one takes longer than running it.
_INSTANCE = sa.bindparam("of_instance", type_=TEXT)
_NUMBER = sa.bindparam("at_number", type_=sa.Integer)
_SIGHTING = sa.select(sightings.c.frame_id).where(
    sightings.c.instance == _INSTANCE, sightings.c.frame_number == _NUMBER
)
_CLIP = (
    sa.select(sightings.c.frame_number, sightings.c.frame_id, instances.c.frame_time_s)
    .join(instances, sightings.c.instance == instances.c.instance)
    .where(sightings.c.instance == _INSTANCE)
    .order_by(sightings.c.frame_number)
)
_FRAME = sa.select(frames.c.frame_id).where(frames.c.frame_id == sa.bindparam("of_frame"))
#: All that is asked before a frame is added, at once; a row in any case.
_KNOWN = sa.select(
    sa.exists(_FRAME).label("is_there"),
    _SIGHTING.scalar_subquery().label("sighted"),
    *(instances.c[name] for name in ("rows", "columns", "left", "top", "right", "bottom")),
).select_from(
    sa.select(sa.literal(1)).subquery().outerjoin(instances, instances.c.instance == _INSTANCE)
)

_PUT_INSTANCE, _PUT_FRAME, _PUT_SIGHTING = map(if_absent, (instances, frames, sightings))

#: What `stored_frames` should be.
STORED_FRAMES = (
    sa.select(sa.func.count()).where(frames.c.instance == instances.c.instance).scalar_subquery()
)
_COUNT_FRAMES = (
    instances.update().where(instances.c.instance == _INSTANCE).values(stored_frames=STORED_FRAMES)
)

#: Columns that younger versions of the node added, and an index that they replaced.
_ADDED = {
    frames: ("label_set", "class_set", "class_name"),
    instances: ("number_of_frames", "frame_time_s", "stored_frames"),
}
_FORMER_INDEX = "instances_by_labels"


def open_catalogue(folder: Path, *, new_on: str | None = None) -> sa.Engine:
    """Open (and create) the catalogue of a store, wherever it is; see `opened`.

    Parameters
    ----------
    folder : Path
        Of the store.
    new_on : str or None
        The server of a store that begins here; a store that is there knows its own.
    """
    place = places.found(folder, new_on)
    engine = opened(folder / places.FILE if place is None else place)

    def stay(connection: sa.Connection) -> None:
        # whoever moves a catalogue holds up its writers until it has moved
        is_reading = connection.get_execution_options().get("only_reads", False)
        if not is_reading and places.read(folder) != place:
            raise DatabaseDownError("the store's catalogue has moved: run the command again")

    sa.event.listen(engine, "begin", stay)
    return engine


def opened(at: Path | Place) -> sa.Engine:
    """Open (and create) a catalogue; an older version's gets its new columns and indexes.

    One that this account may only read is opened as it is, and refuses what writes.
    """
    if isinstance(at, Path):
        engine = open_or_read(at, metadata, updated_by=_UPDATED_BY, layout=LAYOUT)
    else:
        engine = open_server(at, metadata)
    if only_reads(engine):
        return engine
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            _bring_up_to_date(engine)
        except sa.exc.ProgrammingError:  # of a server's role that may only read
            with for_reading(engine).begin() as connection:
                need_columns(connection, metadata, "the catalogue", updated_by=_UPDATED_BY)
        stack.pop_all()
    return engine


def _bring_up_to_date(engine: sa.Engine) -> None:
    with engine.begin() as connection:  # of two processes one adds
        added = [name for table in _ADDED for name in _add_columns(connection, table)]
        if "stored_frames" in added:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {_FORMER_INDEX}")
            connection.execute(instances.update().values(stored_frames=STORED_FRAMES))
        for table in metadata.tables.values():
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        if "label_set" in added:
            masked = frames.c.mask_digest.is_not(None)
            connection.execute(frames.update().where(masked).values(label_set=DEFAULT_LABEL_SET))


def _add_columns(connection: sa.Connection, table: sa.Table) -> list[str]:
    there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    added = [name for name in _ADDED[table] if name not in there]
    for name in added:
        column = sa.schema.CreateColumn(table.c[name]).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")
    return added


def put(connection: sa.Connection, frame: NewFrame, frame_id: str, size_bytes: int) -> None:
    """Add the rows of a frame; rows that are there stay as they are."""
    connection.execute(_PUT_INSTANCE[connection.dialect.name], _instance_row(frame))
    put = connection.execute(
        _PUT_FRAME[connection.dialect.name],
        {
            "frame_id": frame_id,
            "instance": frame.instance,
            "frame_number": frame.frame_number,
            "height": frame.crop.height,
            "width": frame.crop.width,
            "size_bytes": size_bytes,
        },
    )
    if put.rowcount:
        count_frames(connection, frame.instance)
    put_sighting(connection, frame.instance, frame.frame_number, frame_id)


def count_frames(connection: sa.Connection, instance: str) -> None:
    """Note how many frames are an instance's, after one has come."""
    connection.execute(_COUNT_FRAMES, {"of_instance": instance})


def resize(connection: sa.Connection, frame_id: str, size_bytes: int) -> None:
    """Note how large the picture of a frame is that was written again."""
    of_frame = frames.c.frame_id == frame_id
    connection.execute(frames.update().where(of_frame).values(size_bytes=size_bytes))


def put_sighting(
    connection: sa.Connection, instance: str, frame_number: int, frame_id: str
) -> None:
    """Note which frame an instance shows under a number; what is noted stays."""
    row = {"instance": instance, "frame_number": frame_number, "frame_id": frame_id}
    connection.execute(_PUT_SIGHTING[connection.dialect.name], row)


def clip(connection: sa.Connection, instance: str) -> list[Sighting]:
    """Return the frames of an instance in order."""
    return [
        Sighting(
            frame_number=row.frame_number,
            time_s=_time_s(row.frame_number, row.frame_time_s),
            frame_id=row.frame_id,
        )
        for row in connection.execute(_CLIP, {"of_instance": instance})
    ]


def sighting(connection: sa.Connection, instance: str, frame_number: int) -> str | None:
    """Return the id of the frame that an instance shows under a number, None when unknown."""
    found: str | None = connection.scalar(
        _SIGHTING, {"of_instance": instance, "at_number": frame_number}
    )
    return found


def has_frame(connection: sa.Connection, frame_id: str) -> bool:
    """Whether there is a frame of this id."""
    return connection.scalar(_FRAME, {"of_frame": frame_id}) is not None


def known(connection: sa.Connection, frame: NewFrame, frame_id: str) -> tuple[bool, bool]:
    """Return whether a frame's pixels are there, and whether its instance has shown them before.

    Raises
    ------
    StoreError
        When the instance had another size or crop, or other pixels under this number.
    """
    names = {"of_instance": frame.instance, "at_number": frame.frame_number, "of_frame": frame_id}
    is_there, sighted, *place = connection.execute(_KNOWN, names).one()
    nowhere = (None,) * len(place)
    if tuple(place) not in (nowhere, frame.place) or sighted not in (None, frame_id):
        raise collision(frame)
    return bool(is_there), sighted is not None


def collision(frame: NewFrame) -> StoreError:
    """Say that an instance has another picture already."""
    return StoreError(
        f"instance {frame.instance}, frame {frame.frame_number}: stored with other pixels; "
        "two objects share one SOP Instance UID, correct the source"
    )


def stored_frame(row: Any) -> StoredFrame:
    """Return the record of a row of `frames` joined with `instances`."""
    spacing = row.row_spacing_mm, row.column_spacing_mm
    return StoredFrame(
        frame_id=row.frame_id,
        patient=row.patient,
        study=row.study,
        series=row.series,
        instance=row.instance,
        frame_number=row.frame_number,
        time_s=_time_s(row.frame_number, row.frame_time_s),
        number_of_frames=row.number_of_frames,
        probe=row.probe,
        geometry=Geometry(row.geometry),
        geometry_rule=row.geometry_rule,
        groups=from_bits(row.groups),
        spacing_mm=None if None in spacing else spacing,
        height=row.height,
        width=row.width,
        quality=row.quality,
        has_mask=row.mask_digest is not None,
        # an older version of the node beside this one writes masks without a set
        label_set=row.label_set or (DEFAULT_LABEL_SET if row.mask_digest else None),
        class_set=row.class_set,
        class_name=row.class_name,
        split=row.split,
        burned_in_annotation=row.burned_in_annotation,
    )


def to_bits(groups: Iterable[str]) -> int:
    """Return study groups as bits."""
    return sum(1 << GROUPS.index(group) for group in groups)


def from_bits(bits: int) -> frozenset[str]:
    """Return the study groups of bits."""
    return frozenset(group for place, group in enumerate(GROUPS) if bits >> place & 1)


def _instance_row(frame: NewFrame) -> dict[str, Any]:
    spacing = frame.spacing_mm or (None, None)
    return {
        "instance": frame.instance,
        "series": frame.series,
        "study": frame.study,
        "patient": frame.patient,
        "split": split_of(frame.patient),
        "rows": frame.rows,
        "columns": frame.columns,
        "left": frame.crop.left,
        "top": frame.crop.top,
        "right": frame.crop.right,
        "bottom": frame.crop.bottom,
        "probe": frame.probe,
        "geometry": frame.geometry.value,
        "geometry_rule": frame.geometry_rule,
        "groups": to_bits(frame.groups),
        "description": frame.description,
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "burned_in_annotation": frame.burned_in_annotation,
        "number_of_frames": frame.number_of_frames,
        "frame_time_s": frame.frame_time_s,
    }


def _time_s(frame_number: int, frame_time_s: float | None) -> float | None:
    """Return when a frame was shown, from the clip's first frame."""
    return None if frame_time_s is None else (frame_number - 1) * frame_time_s
