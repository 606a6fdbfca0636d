"""The table of what sources say of instances; see `dicom_node.store.evidence`."""

from typing import Any

import sqlalchemy as sa

from dicom_node.store.catalogue import metadata, to_bits
from dicom_node.store.columns import TEXT
from dicom_node.store.records import Evidence

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column(
        "instance", sa.ForeignKey("instances.instance", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("source", TEXT, primary_key=True),
    sa.Column("term", TEXT, primary_key=True),
    #: bits as in `instances`; null where no table maps the term
    sa.Column("groups", sa.Integer),
    sa.Column("rule", TEXT, nullable=False),
    sa.Index("evidence_of_term", "source", "term"),
    # what is said of an instance lies side by side: sources are compared without looking further
    sqlite_with_rowid=False,
)


def meaning(one: Evidence) -> dict[str, Any]:
    """Return the columns of what words stand for."""
    return {"groups": None if one.groups is None else to_bits(one.groups), "rule": one.rule}
