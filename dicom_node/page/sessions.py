"""Who is logged in: random tokens in cookies, of which the database has only the digest."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.page.tables import SESSION

#: Notes that wait to be shown; older ones are let go.
_MOST_NOTES: Final = 5


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """Somebody's session."""

    sha256: str
    name: str
    is_by_proxy: bool
    #: comes back with every form
    csrf: str
    #: (kind, words) that the next page tells
    notes: tuple[tuple[str, str], ...]


class Sessions:
    """The sessions in ``page.db``.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    lasts_s : float
        A session ends so long after it began.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self, engine: sa.Engine, lasts_s: float, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine, self._reads = engine, for_reading(engine)
        self._lasts_s = lasts_s
        self._clock = clock

    def open(self, name: str, *, is_by_proxy: bool = False) -> str:
        """Begin a session and return its token; those that ended are forgotten."""
        token, now = secrets.token_urlsafe(32), self._clock()
        values = {
            "sha256": _digest(token),
            "name": name,
            "is_by_proxy": is_by_proxy,
            "csrf": secrets.token_urlsafe(32),
            "ends_at": now + self._lasts_s,
            "notes": [],
        }
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SESSION).where(SESSION.c.ends_at <= now))
            connection.execute(sa.insert(SESSION).values(values))
        return token

    def find(self, token: str) -> SessionRow | None:
        """Return the session of a token, None when it ended or never was."""
        query = sa.select(SESSION).where(
            SESSION.c.sha256 == _digest(token), SESSION.c.ends_at > self._clock()
        )
        with self._reads.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return SessionRow(
            sha256=row.sha256,
            name=row.name,
            is_by_proxy=row.is_by_proxy,
            csrf=row.csrf,
            notes=tuple((kind, words) for kind, words in row.notes),
        )

    def close(self, session: SessionRow) -> None:
        """End a session."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SESSION).where(SESSION.c.sha256 == session.sha256))

    def note(self, session: SessionRow, kind: str, words: str) -> None:
        """Let the next page of a session tell something."""
        mine = SESSION.c.sha256 == session.sha256
        with self._engine.begin() as connection:
            notes = connection.scalar(sa.select(SESSION.c.notes).where(mine)) or []
            kept = [*notes, [kind, words]][-_MOST_NOTES:]
            connection.execute(sa.update(SESSION).where(mine).values(notes=kept))

    def told(self, session: SessionRow) -> None:
        """Forget the notes of a session."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(SESSION).where(SESSION.c.sha256 == session.sha256).values(notes=[])
            )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
