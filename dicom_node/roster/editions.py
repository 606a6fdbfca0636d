"""What was said of an image by any node: they count its results together.

A node that takes a study over knows nothing of what the dead one sent. Here it finds it, gives the
same results the same UIDs, and lets others replace them.
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
            Of the image.
        models : str
            Fingerprint of the models that are asked, and of the bytes that they see.
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
    return {"kind": result.kind.value} | {name: getattr(result, name) for name in _FIELDS}


def _result(values: dict[str, Any]) -> Result:
    known = {name: values[name] for name in _FIELDS}
    # the file is on the disk of the node that wrote it
    return Result(kind=ResultKind(values["kind"]), path=Path(), **known)
