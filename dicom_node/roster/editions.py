"""What was said of an image by any node: they count its results together.

A node that takes a study over knows nothing of what the dead one sent. Here it finds it, gives the
same results the same UIDs, and lets others replace them. A SEG of stills is counted under its
series, as an image is under its own UID.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from dicom_node.records import Edition, Result, ResultKind
from dicom_node.roster.tables import EDITION


class Editions:
    """The editions of all nodes; made by `Roster`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def agree(self, sop_instance_uid: str, models: str, own: Edition) -> Edition:
        """Return which edition comes next among those of all nodes.

        Parameters
        ----------
        sop_instance_uid : str
            Of the image, or the series of a SEG of stills.
        models : str
            Fingerprint of the models that are asked, and of the bytes that they see; or of the
            stills.
        own : Edition
            What this node counts by itself.
        """
        query = (
            sa.select(EDITION)
            .where(EDITION.c.sop_instance_uid == sop_instance_uid)
            .order_by(EDITION.c.version.desc())
            .limit(2)
        )
        with self._engine.connect() as connection:
            known = connection.execute(query).all()
        if not known or known[0].version < own.version:
            return own
        # the same models of the same bytes: it is said again, and not anew
        is_same = known[0].models == models
        before = known[1:] if is_same else known[:1]
        return Edition(
            version=known[0].version + (not is_same),
            study_revision=own.study_revision,
            predecessors=tuple(_result(one) for row in before for one in row.results),
        )

    def note(
        self, sop_instance_uid: str, models: str, edition: Edition, results: tuple[Result, ...]
    ) -> None:
        """Note what was said of an image; the first to note an edition decides it."""
        values = {
            "sop_instance_uid": sop_instance_uid,
            "version": edition.version,
            "models": models,
            "results": [_values(result) for result in results],
        }
        with self._engine.begin() as connection:
            connection.execute(insert(EDITION).values(values).on_conflict_do_nothing())

    def images(self, series_instance_uid: str) -> frozenset[str]:
        """Return the images that the last SEG of stills of a series speaks of."""
        query = (
            sa.select(EDITION.c.results)
            .where(EDITION.c.sop_instance_uid == series_instance_uid)
            .order_by(EDITION.c.version.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            results = connection.scalar(query) or []
        return frozenset(uid for one in results for uid in one["images"])


_FIELDS = (
    "sop_instance_uid",
    "sop_class_uid",
    "study_instance_uid",
    "source_sop_instance_uid",
    "series_instance_uid",
    "version",
    "supersedes",
)


def _values(result: Result) -> dict[str, Any]:
    known = {name: getattr(result, name) for name in _FIELDS}
    return {"kind": result.kind.value, "images": list(result.images)} | known


def _result(values: dict[str, Any]) -> Result:
    known = {name: values[name] for name in _FIELDS}
    # the file is on the disk of the node that wrote it
    return Result(kind=ResultKind(values["kind"]), path=Path(), **known)
