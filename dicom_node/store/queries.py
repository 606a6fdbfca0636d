"""What is asked of the catalogue as a whole: its frames, its version, its counts."""

import hashlib
from collections import Counter

import sqlalchemy as sa

from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Geometry, Task
from dicom_node.store import catalogue
from dicom_node.store.catalogue import frames, instances
from dicom_node.store.records import StoredFrame, StoreInfo
from dicom_node.store.split import SPLITS

_LABEL_OF = {
    Task.SEGMENTATION: frames.c.mask_digest,
    Task.QUALITY: frames.c.quality,
    Task.CLASSIFICATION: frames.c.class_name,
}


def stored_frames(
    connection: sa.Connection, *, labelled: Task | None = None, split: str | None = None
) -> list[StoredFrame]:
    """Return frames as `WeakLabelStore.frames` does.

    Raises
    ------
    StoreError
        When there is no such split.
    """
    if split is not None and split not in SPLITS:
        raise StoreError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    query = sa.select(frames, instances).join(instances, frames.c.instance == instances.c.instance)
    if labelled is not None:
        query = query.where(_LABEL_OF[labelled].is_not(None))
    if split is not None:
        query = query.where(instances.c.split == split)
    query = query.order_by(
        instances.c.patient, instances.c.study, instances.c.instance, frames.c.frame_number
    )
    return [catalogue.stored_frame(row) for row in connection.execute(query)]


def version(connection: sa.Connection) -> str:
    """Return a name for the content: equal content has equal names, wherever it was made."""
    seen = hashlib.sha256()
    query = sa.select(
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
    ).join(instances, frames.c.instance == instances.c.instance)
    for row in connection.execute(query.order_by(frames.c.frame_id)):
        seen.update(repr(tuple(row)).encode())
    return seen.hexdigest()[:16]


def info(connection: sa.Connection) -> StoreInfo:
    """Count what is in the store."""
    stored = stored_frames(connection)
    size_bytes = connection.scalar(
        sa.select(sa.func.sum(frames.c.size_bytes + frames.c.mask_bytes))
    )
    known = connection.scalar(sa.select(sa.func.count()).select_from(instances))
    return StoreInfo(
        frames=len(stored),
        instances=known or 0,
        patients=len({frame.patient for frame in stored}),
        by_geometry={g: sum(f.geometry is g for f in stored) for g in Geometry},
        by_group={group: sum(group in f.groups for f in stored) for group in GROUPS},
        by_split={split: sum(f.split == split for f in stored) for split in SPLITS},
        labelled={
            Task.SEGMENTATION: sum(f.has_mask for f in stored),
            Task.QUALITY: sum(f.quality is not None for f in stored),
            Task.CLASSIFICATION: sum(f.class_name is not None for f in stored),
        },
        by_label_set=dict(sorted(Counter(f.label_set for f in stored if f.label_set).items())),
        by_class=dict(
            sorted(Counter(f"{f.class_set}/{f.class_name}" for f in stored if f.class_set).items())
        ),
        size_bytes=size_bytes or 0,
    )
