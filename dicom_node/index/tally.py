"""How much is registered, counted by the database itself: a status page walks no table."""

from typing import Any, Final

import sqlalchemy as sa

from dicom_node.index.tables import INSTANCE, METADATA, SERIES

#: one row
TALLY: Final = sa.Table(
    "tally",
    METADATA,
    sa.Column("only", sa.Integer, primary_key=True),
    sa.Column("series", sa.Integer, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
)
# triggers are part of the transaction that changes the table, whoever writes it
_ON_CREATE: Final = (
    """
    INSERT INTO tally SELECT 1, (SELECT count(*) FROM series), count(*),
        coalesce(sum(size_bytes), 0) FROM instance
    """,
    """
    CREATE TRIGGER tally_series_new AFTER INSERT ON series
    BEGIN UPDATE tally SET series = series + 1; END
    """,
    """
    CREATE TRIGGER tally_instance_new AFTER INSERT ON instance
    BEGIN UPDATE tally SET instances = instances + 1, bytes = bytes + NEW.size_bytes; END
    """,
    """
    CREATE TRIGGER tally_instance_gone AFTER DELETE ON instance
    BEGIN UPDATE tally SET instances = instances - 1, bytes = bytes - OLD.size_bytes; END
    """,
)
TALLY.add_is_dependent_on(SERIES)
TALLY.add_is_dependent_on(INSTANCE)


@sa.event.listens_for(TALLY, "after_create")
def _begin(_: sa.Table, connection: sa.Connection, **__: Any) -> None:
    for statement in _ON_CREATE:
        connection.exec_driver_sql(statement)
