"""How many deliveries are in each state, counted by the database: a status page walks no table."""

from typing import Any, Final

import sqlalchemy as sa

from dicom_node.outbox.tables import DELIVERY, METADATA

TALLY: Final = sa.Table(
    "tally",
    METADATA,
    sa.Column("state", sa.String, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)
_IN: Final = """
    INSERT OR IGNORE INTO tally VALUES (NEW.state, 0);
    UPDATE tally SET count = count + 1 WHERE state = NEW.state;
"""
_OUT: Final = "UPDATE tally SET count = count - 1 WHERE state = OLD.state;"
# triggers are part of the transaction that changes the table, whoever writes it
_ON_CREATE: Final = (
    "INSERT INTO tally SELECT state, count(*) FROM delivery GROUP BY state",
    f"CREATE TRIGGER tally_new AFTER INSERT ON delivery BEGIN {_IN} END",
    f"CREATE TRIGGER tally_moved AFTER UPDATE OF state ON delivery BEGIN {_OUT} {_IN} END",
    f"CREATE TRIGGER tally_gone AFTER DELETE ON delivery BEGIN {_OUT} END",
)
TALLY.add_is_dependent_on(DELIVERY)


@sa.event.listens_for(TALLY, "after_create")
def _begin(_: sa.Table, connection: sa.Connection, **__: Any) -> None:
    for statement in _ON_CREATE:
        connection.exec_driver_sql(statement)
