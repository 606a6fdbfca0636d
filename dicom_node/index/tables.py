"""The tables of the index."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

# times are microseconds since 1970 UTC: they compare, index and survive a change of time zone
STUDY: Final = sa.Table(
    "study",
    METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("patient_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    # the revision that was worked on to its end
    sa.Column("finished", sa.Integer, nullable=False),
    sa.Column("first_received_us", sa.Integer, nullable=False),
    sa.Column("last_received_us", sa.Integer, nullable=False),
    sa.Column("completed_us", sa.Integer),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Index("study_by_state", "state", "last_received_us"),
    sa.Index(
        "study_unfinished",
        "study_instance_uid",
        sqlite_where=sa.text("state = 'complete' AND finished < revision"),
    ),
)
# every completion; STUDY holds the last one as well
COMPLETION: Final = sa.Table(
    "completion",
    METADATA,
    sa.Column("study_instance_uid", sa.ForeignKey(STUDY.c[0]), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("completed_us", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
)
# a Series Instance UID may, wrongly, stand in two studies
SERIES: Final = sa.Table(
    "series",
    METADATA,
    sa.Column("study_instance_uid", sa.ForeignKey(STUDY.c[0]), primary_key=True),
    sa.Column("series_instance_uid", sa.String, primary_key=True),
)
INSTANCE: Final = sa.Table(
    "instance",
    METADATA,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("sop_class_uid", sa.String, nullable=False),
    sa.Column("series_instance_uid", sa.String, nullable=False),
    sa.Column("study_instance_uid", sa.ForeignKey(STUDY.c[0]), nullable=False, index=True),
    sa.Column("transfer_syntax_uid", sa.String, nullable=False),
    sa.Column("file_id", sa.String, nullable=False, unique=True),
    # relative to the folder of the index, so that the data folder may move
    sa.Column("path", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("received_us", sa.Integer, nullable=False),
)
# what lies in quarantine because its SOP Instance UID is known with other bytes
APART: Final = sa.Table(
    "apart",
    METADATA,
    sa.Column("sha256", sa.String, primary_key=True),
    sa.Column("file_id", sa.String, nullable=False),
)
# since when a study is open, as long as it is
OPENING: Final = sa.Table(
    "opening",
    METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    # when the first of what is new in it came
    sa.Column("first_us", sa.Integer, nullable=False, index=True),
)
# what is new in an open study: came since it was completed last
FRESH: Final = sa.Table(
    "fresh",
    METADATA,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
)
# what peers said of instances
SAID: Final = sa.Table(
    "said",
    METADATA,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("file_id", sa.String, nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("ae_title", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("uid", sa.String, nullable=False, index=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("received_us", sa.Integer, nullable=False, index=True),
    # a serial is never used again: whoever saw the highest one saw everything
    sqlite_autoincrement=True,
)
SAID_STUDY: Final = sa.Table(
    "said_study",
    METADATA,
    sa.Column("serial", sa.ForeignKey(SAID.c[0], ondelete="CASCADE"), primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True, index=True),
)
LISTED: Final = sa.Table(
    "listed",
    METADATA,
    sa.Column("serial", sa.ForeignKey(SAID.c[0], ondelete="CASCADE"), primary_key=True),
    sa.Column("sop_instance_uid", sa.String, primary_key=True, index=True),
    sa.Column("sop_class_uid", sa.String, nullable=False),
)
# the reports that commitments are owed
COMMITMENT: Final = sa.Table(
    "commitment",
    METADATA,
    sa.Column("serial", sa.ForeignKey(SAID.c[0], ondelete="CASCADE"), primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_us", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Index("commitment_due", "state", "due_us"),
)
# how many instances a PACS says that a study has
COUNTED: Final = sa.Table(
    "counted",
    METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("ae_title", sa.String, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("last_received_us", sa.Integer, nullable=False),
)
