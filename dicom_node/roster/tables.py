"""The tables of the nodes that share a PostgreSQL server, in a schema of their own."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData(schema="dicom_node")
NODE: Final = sa.Table(
    "node",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("installation", sa.String, nullable=False),
    sa.Column("ae_title", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
    # who takes its studies over, while it is dead
    sa.Column("claimed_by", sa.String),
)
UNFINISHED: Final = sa.Table(
    "unfinished_study",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    # how many of the study the node has
    sa.Column("instances", sa.Integer, nullable=False),
    # who finishes it in the place of the node
    sa.Column("taken_by", sa.String),
    # how often somebody tried to, when last, and why it did not come to be
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("tried_at", sa.DateTime(timezone=True)),
    sa.Column("reason", sa.String, nullable=False),
)
EDITION: Final = sa.Table(
    "edition",
    METADATA,
    # of the image
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # fingerprint of the models, and of the bytes that they saw
    sa.Column("models", sa.String, nullable=False),
    # kind, SOP Class, Study, Series and SOP Instance UID of each result
    sa.Column("results", sa.JSON, nullable=False),
)
# who all of them are in their results
DEVICE: Final = sa.Table(
    "device",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("installation", sa.String, nullable=False),
)
