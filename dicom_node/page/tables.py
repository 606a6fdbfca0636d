"""The tables of ``page.db``. None of them holds anything of a patient."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()
USER: Final = sa.Table(
    "user",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    # argon2id; "" = comes in through the trusted proxy alone
    sa.Column("password_hash", sa.String, nullable=False),
    sa.Column("added_at", sa.Float, nullable=False),
)
SESSION: Final = sa.Table(
    "session",
    METADATA,
    # of the token in the cookie: who reads this file cannot log in with it
    sa.Column("sha256", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("is_by_proxy", sa.Boolean, nullable=False),
    sa.Column("csrf", sa.String, nullable=False),
    sa.Column("ends_at", sa.Float, nullable=False, index=True),
    # what the next page tells, once
    sa.Column("notes", sa.JSON, nullable=False),
)
AUDIT: Final = sa.Table(
    "audit",
    METADATA,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("object", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
