"""Who did what on the page, when, to what, and from where; nothing in it names a patient."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node import log
from dicom_node.database import for_reading
from dicom_node.page.tables import AUDIT

#: What a stranger typed is cut after so many characters.
LONGEST: Final = 200


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One thing that somebody did."""

    serial: int
    at: datetime
    name: str
    action: str
    #: a Study Instance UID, a job, a destination, or what the action names
    object: str
    host: str


class Journal:
    """The table of what was done, which only grows."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reads = engine, for_reading(engine)

    def write(self, name: str, action: str, of: str, host: str) -> None:
        """Write down that somebody did something; durable when it returns."""
        values = {
            "at": datetime.now(UTC).timestamp(),
            "name": _shown(name),
            "action": action,
            "object": _shown(of),
            "host": host,
        }
        with self._engine.begin() as connection:
            connection.execute(sa.insert(AUDIT).values(values))
        # who did it stands in page.db alone: the log has no field for people
        log.get("page").info("page used", what=action, host=host)

    def latest(self, limit: int, before: int | None = None, part: str = "") -> list[AuditRow]:
        """Return what was done last, or before that of a serial, the latest first.

        With `part` only that in whose name, action or object it stands.
        """
        query = sa.select(AUDIT).order_by(AUDIT.c.serial.desc()).limit(limit)
        if part:
            columns = (AUDIT.c.name, AUDIT.c.action, AUDIT.c.object)
            query = query.where(sa.or_(*(one.contains(part, autoescape=True) for one in columns)))
        if before is not None:
            query = query.where(AUDIT.c.serial < before)
        with self._reads.connect() as connection:
            return [_to_row(row) for row in connection.execute(query)]


def _shown(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value[:LONGEST])


def _to_row(row: sa.Row[Any]) -> AuditRow:
    values = dict(row._mapping)
    return AuditRow(**values | {"at": datetime.fromtimestamp(values["at"], UTC)})
