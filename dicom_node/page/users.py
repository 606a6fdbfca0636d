"""Who may use the page, as what, and whether a password is right."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading
from dicom_node.errors import PermanentError
from dicom_node.page.tables import SESSION, USER
from dicom_node.page_settings import Role

#: NIST SP 800-63B 3.1.1.2: length is what counts, and no rule on characters
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 1024
LONGEST_NAME: Final = 64
#: Each takes 64 MiB while it is computed.
_AT_ONCE: Final = 2


@dataclass(frozen=True, kw_only=True)
class UserRow:
    """Somebody who may use the page."""

    name: str
    role: Role
    has_password: bool
    added_at: datetime


class Users:
    """The users in ``page.db``."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reads = engine, for_reading(engine)
        self._hasher = PasswordHasher()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def add(self, name: str, role: Role, password: str | None) -> None:
        """Add somebody, or change role and password of who is there; open sessions end.

        Parameters
        ----------
        name : str
        role : Role
        password : str or None
            None for who comes in through the trusted proxy alone.

        Raises
        ------
        PermanentError
            When name or password will not do.
        """
        _check_name(name)
        values = {
            "role": role.value,
            "password_hash": "" if password is None else self._hashed(password),
            "added_at": datetime.now(UTC).timestamp(),
        }
        with self._engine.begin() as connection:
            row = insert(USER).values(name=name, **values)
            connection.execute(row.on_conflict_do_update(index_elements=[USER.c.name], set_=values))
            connection.execute(sa.delete(SESSION).where(SESSION.c.name == name))

    def remove(self, name: str) -> None:
        """Let somebody in no more; open sessions end.

        Raises
        ------
        PermanentError
            When there is nobody of this name.
        """
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SESSION).where(SESSION.c.name == name))
            if not connection.execute(sa.delete(USER).where(USER.c.name == name)).rowcount:
                raise PermanentError(f"no user {name!r}; 'dicom-node page user list' names them")

    def all(self) -> list[UserRow]:
        """Return everybody, by name."""
        with self._reads.connect() as connection:
            return [_to_user(row) for row in connection.execute(sa.select(USER).order_by("name"))]

    def find(self, name: str) -> UserRow | None:
        """Return who has this name, None when nobody does."""
        row = self._row(name)
        return None if row is None else _to_user(row)

    def is_right(self, name: str, password: str) -> bool:
        """Whether somebody of this name has this password."""
        row = self._row(name)
        known = row is not None and bool(row.password_hash)
        kept = row.password_hash if row is not None and known else self._decoy
        with self._turns:
            try:
                self._hasher.verify(kept, password[:LONGEST_PASSWORD])
            except (VerificationError, InvalidHashError):
                return False
        return known

    @cached_property
    def _decoy(self) -> str:
        """A hash of nobody's: an unknown name takes as long as a wrong password."""
        return self._hasher.hash("the password of nobody")

    def _row(self, name: str) -> sa.Row[Any] | None:
        with self._reads.connect() as connection:
            return connection.execute(sa.select(USER).where(USER.c.name == name)).one_or_none()

    def _hashed(self, password: str) -> str:
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise PermanentError(
                f"a password of {len(password)} characters will not do; take "
                f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD}, such as four words"
            )
        return self._hasher.hash(password)


def _check_name(name: str) -> None:
    if not name.isprintable() or name != name.strip() or not 1 <= len(name) <= LONGEST_NAME:
        raise PermanentError(
            f"the name {name!r} will not do; take 1 to {LONGEST_NAME} printable characters "
            "without spaces around them"
        )


def _to_user(row: sa.Row[Any]) -> UserRow:
    return UserRow(
        name=row.name,
        role=Role(row.role),
        has_password=bool(row.password_hash),
        added_at=datetime.fromtimestamp(row.added_at, UTC),
    )
