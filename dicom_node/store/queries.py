"""What is asked of the catalogue as a whole: its frames, its version, its counts."""

import hashlib
from typing import Any

import sqlalchemy as sa

from dicom_node.records import GROUPS, Geometry, Task
from dicom_node.store import catalogue
from dicom_node.store.catalogue import frames, instances
from dicom_node.store.label_sets import DEFAULT_LABEL_SET
from dicom_node.store.records import ImageLabels, LabelCount, StoredFrame, StoreInfo
from dicom_node.store.split import SPLITS

LABEL_OF = {
    Task.SEGMENTATION: frames.c.mask_digest,
    Task.QUALITY: frames.c.quality,
    Task.CLASSIFICATION: frames.c.class_name,
}
#: An older version of the node beside this one writes masks without a set.
_LABEL_SET = sa.case(
    (frames.c.mask_digest.is_not(None), sa.func.coalesce(frames.c.label_set, DEFAULT_LABEL_SET)),
)
#: How many frames the chosen instances have.
FRAMES = sa.func.sum(instances.c.stored_frames)
#: Of frames, whenever they came.
ORDER = (instances.c.patient, instances.c.study, instances.c.instance, frames.c.frame_number)


def joined(*what: Any) -> sa.Select[Any]:
    """Return a query on frames with what is known of their instances."""
    return sa.select(*what).select_from(
        frames.join(instances, frames.c.instance == instances.c.instance)
    )


def stored_frames(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool]
) -> list[StoredFrame]:
    """Return the frames that fit all conditions, in order."""
    query = joined(frames, instances).where(*conditions).order_by(*ORDER)
    return [catalogue.stored_frame(row) for row in connection.execute(query)]


def version(connection: sa.Connection) -> str:
    """Return a name for the content: equal content has equal names, wherever it was made."""
    seen = hashlib.sha256()
    query = joined(
        frames.c.frame_id,
        frames.c.quality,
        frames.c.mask_digest,
        frames.c.label_set,
        frames.c.class_set,
        frames.c.class_name,
        instances.c.patient,
        instances.c.probe,
        instances.c.geometry,
        instances.c.groups,
        instances.c.split,
    )
    for row in connection.execute(query.order_by(frames.c.frame_id)):
        seen.update(repr(tuple(row)).encode())
    return seen.hexdigest()[:16]


def label_counts(connection: sa.Connection) -> list[LabelCount]:
    """Count the frames by what the scanners taught of them."""
    labels = instances.c.geometry, instances.c.split, instances.c.groups
    has_frames = instances.c.stored_frames > 0
    query = sa.select(*labels, FRAMES.label("frames")).where(has_frames).group_by(*labels)
    return [
        LabelCount(
            geometry=Geometry(row.geometry),
            split=row.split,
            groups=catalogue.from_bits(row.groups),
            frames=row.frames,
        )
        for row in connection.execute(query)
    ]


def labels_of_study(connection: sa.Connection, study: str) -> list[ImageLabels]:
    """Count the images of a study's pseudonym by what the scanner taught of them."""
    labels = instances.c.probe, instances.c.geometry, instances.c.groups
    query = sa.select(*labels, sa.func.count().label("images")).where(instances.c.study == study)
    return [
        ImageLabels(
            probe=row.probe,
            geometry=Geometry(row.geometry),
            groups=catalogue.from_bits(row.groups),
            images=row.images,
        )
        for row in connection.execute(
            query.group_by(*labels).order_by(labels[0].nulls_first(), *labels[1:])
        )
    ]


def info(connection: sa.Connection) -> StoreInfo:
    """Count what is in the store."""
    number, counts = connection.scalar, label_counts(connection)
    size_bytes = sa.func.sum(frames.c.size_bytes + frames.c.mask_bytes)

    def labelled(*names: sa.ColumnElement[Any]) -> dict[str, int]:
        """Count the frames that have a label, by its names."""
        query = sa.select(*names, sa.func.count()).where(names[-1].is_not(None)).group_by(*names)
        rows = sorted(tuple(row) for row in connection.execute(query))
        return {"/".join(map(str, row[:-1])): row[-1] for row in rows}

    return StoreInfo(
        frames=sum(one.frames for one in counts),
        instances=number(sa.select(sa.func.count()).select_from(instances)) or 0,
        patients=number(
            sa.select(sa.func.count(instances.c.patient.distinct())).where(
                instances.c.stored_frames > 0
            )
        )
        or 0,
        by_geometry={g: sum(one.frames for one in counts if one.geometry is g) for g in Geometry},
        by_group={
            group: sum(one.frames for one in counts if group in one.groups) for group in GROUPS
        },
        by_split={s: sum(one.frames for one in counts if one.split == s) for s in SPLITS},
        labelled={
            task: number(sa.select(sa.func.count()).where(LABEL_OF[task].is_not(None))) or 0
            for task in LABEL_OF
        },
        by_label_set=labelled(_LABEL_SET),
        by_class=labelled(frames.c.class_set, frames.c.class_name),
        burned_in_annotation=int(
            number(sa.select(FRAMES).where(instances.c.burned_in_annotation.is_(True))) or 0
        ),
        size_bytes=number(sa.select(size_bytes)) or 0,
    )
