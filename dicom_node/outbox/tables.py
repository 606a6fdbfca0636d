"""The tables of ``outbox.db``."""

import sqlalchemy as sa

METADATA = sa.MetaData()
RESULT = sa.Table(
    "result",
    METADATA,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("sop_class_uid", sa.String, nullable=False),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("source_sop_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("file_name", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
# which results of an image follow upon which; one of a former program has no row and is the first
VERSION = sa.Table(
    "version",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("series_instance_uid", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("supersedes", sa.String),
)
DELIVERY = sa.Table(
    "delivery",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Index("delivery_due", "state", "due_at"),
)
# how often what one destination is owed of one study was handed out
ERRAND = sa.Table(
    "errand",
    METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("lease", sa.Integer, nullable=False),
)
ANALYSED = sa.Table(
    "analysed",
    METADATA,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("models", sa.String, primary_key=True),
    sa.Column("analysed_at", sa.Float, nullable=False),
)
