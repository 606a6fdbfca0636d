"""A few frames that show what words are about, found in the same time in a store of any size."""

from collections import defaultdict
from itertools import zip_longest
from typing import Final

import sqlalchemy as sa

from dicom_node.store.catalogue import instances, sightings
from dicom_node.store.records import Source
from dicom_node.store.said import evidence

#: Among so many instances with these words studies are looked for that differ.
LOOKED_AT: Final = 400


def frames_of(connection: sa.Connection, source: Source, term: str, most: int) -> list[str]:
    """Return ids of frames; see `EvidenceBook.samples`."""
    of_study: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(_instances(source, term)):
        of_study[row.study].append(row.instance)
    # one of each study before a second one of any
    by_turns = [one for turn in zip_longest(*of_study.values()) for one in turn if one]
    found: dict[str, None] = {}
    for instance in by_turns:
        if len(found) == most:
            break
        frame_id = _middle(connection, instance)
        if frame_id is not None:
            found[frame_id] = None
    return list(found)


def _instances(source: Source, term: str) -> sa.Select[tuple[str, str]]:
    query = sa.select(instances.c.instance, instances.c.study).limit(LOOKED_AT)
    if source is Source.STUDY_DESCRIPTION:
        return query.where(instances.c.description == term)
    said = evidence.c.source == source.value, evidence.c.term == term
    return query.join(evidence, evidence.c.instance == instances.c.instance).where(*said)


def _middle(connection: sa.Connection, instance: str) -> str | None:
    """Return the frame in the middle of what the store keeps of a clip, None when it has none."""
    shown = connection.scalars(
        sa.select(sightings.c.frame_id)
        .where(sightings.c.instance == instance)
        .order_by(sightings.c.frame_number)
    ).all()
    return shown[len(shown) // 2] if shown else None
