"""The nodes that share a PostgreSQL server: who lives, and what each has not finished.

In a schema of its own beside the jobs. Every time is the server's: nodes need no common clock. It
holds UIDs and counts, and nothing of a patient.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from dicom_node import __version__
from dicom_node.errors import ConfigError, DatabaseDownError
from dicom_node.roster.editions import Editions
from dicom_node.roster.rows import NodeRow, OwedStudy
from dicom_node.roster.tables import DEVICE, METADATA, NODE, UNFINISHED

#: Two nodes that start at once make the tables one after the other.
_MAKING: Final = 4_242_001
#: Whoever took a study over has cancelled what the other had to do with it by then.
SETTLED_S: Final = 5.0
_UNKNOWN: Final = -1


class Roster:
    """What one node writes of itself, and reads of the others.

    Parameters
    ----------
    url : str
        ``database:`` of the configuration.
    name : str
        ``node.name``.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._engine = sa.create_engine(
            sa.make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10},
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "handle_error", _translate)
        #: what was said of images by any node
        self.editions = Editions(self._engine)
        #: what stands in the table of this node's studies
        self._listed: dict[str, int] = {}
        with self._engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
            connection.execute(sa.schema.CreateSchema("dicom_node", if_not_exists=True))
            METADATA.create_all(connection)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def join(self, *, installation: str, ae_title: str, dead_after_s: float) -> None:
        """Enter this node; one that comes back finds what it had listed.

        Parameters
        ----------
        installation : str
            Tells one data folder from another.
        ae_title : str
            For people.
        dead_after_s : float
            A node that was silent for so long is dead.

        Raises
        ------
        ConfigError
            When another installation lives under the same name.
        """
        with self._engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
            query = sa.select(NODE, _silent_s()).where(NODE.c.name == self.name)
            known = connection.execute(query).one_or_none()
            if known is not None and known.installation != installation:
                if known.silent_s < dead_after_s:
                    raise ConfigError(
                        f"node.name: another node that lives calls itself {self.name!r} in this "
                        "database; give each node a name of its own"
                    )
                _set_aside(connection, known)
            values = {"installation": installation, "ae_title": ae_title, "version": __version__}
            row = insert(NODE).values(name=self.name, beat_at=sa.func.now(), **values)
            changes = values | {"beat_at": sa.func.now(), "claimed_by": None}
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=changes))
            own = sa.select(UNFINISHED.c.study_instance_uid, UNFINISHED.c.instances).where(
                UNFINISHED.c.name == self.name
            )
            listed = connection.execute(own)
            self._listed = {row.study_instance_uid: row.instances for row in listed}

    def device(self, installation: str) -> str:
        """Return which installation all nodes are in their results: that of the first."""
        row = insert(DEVICE).values(number=1, installation=installation)
        with self._engine.begin() as connection:
            connection.execute(row.on_conflict_do_nothing())
            return str(connection.scalars(sa.select(DEVICE.c.installation)).one())

    def beat(self) -> None:
        """Give a sign of life."""
        beat = {"beat_at": sa.func.now(), "claimed_by": None}
        self._run(sa.update(NODE).where(NODE.c.name == self.name).values(beat))

    def list_unfinished(self, studies: Mapping[str, int]) -> None:
        """Let the studies of this node that stand in the table be these; only changes are written.

        Parameters
        ----------
        studies : mapping of str to int
            Study Instance UID to how many instances the node has of it.
        """
        gone = sorted(self._listed.keys() - studies.keys())
        new = {uid: n for uid, n in studies.items() if self._listed.get(uid) != n}
        if not gone and not new:
            return
        fresh = {"name": self.name, "since": sa.func.now(), "tries": 0, "reason": ""}
        with self._engine.begin() as connection:
            for uid, instances in sorted(new.items()):
                row = insert(UNFINISHED).values(
                    study_instance_uid=uid, instances=instances, **fresh
                )
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=["name", "study_instance_uid"],
                        set_={"instances": instances},
                    )
                )
            for uid in gone:  # what others took over is named by `returned` first
                is_ours = sa.and_(_is_study(self.name, uid), UNFINISHED.c.taken_by.is_(None))
                connection.execute(sa.delete(UNFINISHED).where(is_ours))
        self._listed = dict(studies)

    def returned(self) -> list[str]:
        """Return this node's studies that others took over while it was thought dead.

        Each is named once: from then on it counts as this node's again.
        """
        mine = sa.and_(UNFINISHED.c.name == self.name, UNFINISHED.c.taken_by.is_not(None))
        # who took it may still be about to cancel its jobs
        settled = UNFINISHED.c.tried_at < _before(SETTLED_S)
        back = sa.update(UNFINISHED).where(mine, settled).values(taken_by=None, tried_at=None)
        with self._engine.begin() as connection:
            found = connection.execute(back.returning(UNFINISHED.c.study_instance_uid))
            studies = sorted(found.scalars())
        self._listed |= dict.fromkeys(studies, _UNKNOWN)
        return studies

    def nodes(self) -> list[NodeRow]:
        """Return every node, this one too, by name."""
        owed = UNFINISHED.c.taken_by.is_(None)
        studies = (
            sa.select(
                UNFINISHED.c.name,
                sa.func.count().filter(owed).label("unfinished"),
                sa.func.count().filter(~owed).label("taken"),
                sa.func.max(UNFINISHED.c.reason).filter(owed).label("reason"),
            )
            .group_by(UNFINISHED.c.name)
            .subquery()
        )
        query = (
            sa.select(NODE, _silent_s(), studies.c.unfinished, studies.c.taken, studies.c.reason)
            .select_from(NODE.outerjoin(studies, studies.c.name == NODE.c.name))
            .order_by(NODE.c.name)
        )
        with self._engine.connect() as connection:
            return [_to_node(row) for row in connection.execute(query)]

    def dead(self, dead_after_s: float) -> list[NodeRow]:
        """Return the other nodes that were silent for so long and left studies unfinished."""
        return [
            row
            for row in self.nodes()
            if row.name != self.name and row.silent_s >= dead_after_s and row.unfinished
        ]

    def claim(self, dead: NodeRow, dead_after_s: float) -> bool:
        """Become the one that takes over from a dead node; of several that live, one succeeds.

        The claim of a node that died itself counts no more.
        """
        living = sa.select(NODE.c.name).where(_silence() < dead_after_s)
        is_free = sa.or_(
            NODE.c.claimed_by.is_(None),
            NODE.c.claimed_by == self.name,
            NODE.c.claimed_by.not_in(living),
        )
        is_same = sa.and_(NODE.c.name == dead.name, NODE.c.beat_at == dead.beat_at)
        claim = sa.update(NODE).where(is_same, is_free).values(claimed_by=self.name)
        return self._run(claim) == 1

    def owed(self, name: str, *, again_after_s: float) -> list[OwedStudy]:
        """Return the studies of a dead node, without those that were tried not long ago."""
        tried_at = UNFINISHED.c.tried_at
        query = (
            _owed(UNFINISHED.c.name == name)
            .where(sa.or_(tried_at.is_(None), tried_at < _before(again_after_s)))
            .order_by(UNFINISHED.c.since)
        )
        return self._owed(query)

    def find(self, name: str, study_uid: str) -> OwedStudy | None:
        """Return a study that a node has not finished and nobody took over."""
        found = self._owed(_owed(_is_study(name, study_uid)))
        return found[0] if found else None

    def take(self, study: OwedStudy) -> None:
        """Note that this node has all that the other had of a study."""
        self._note(study, taken_by=self.name, reason="")

    def leave(self, study: OwedStudy, *, reason: str) -> None:
        """Note why a study could not be taken over now; it stays the other node's."""
        self._note(study, reason=reason)

    def _note(self, study: OwedStudy, **values: Any) -> None:
        self._run(
            sa.update(UNFINISHED)
            .where(_is_study(study.name, study.study_instance_uid))
            .values(tries=study.tries + 1, tried_at=sa.func.now(), **values)
        )

    def _owed(self, query: sa.Select[Any]) -> list[OwedStudy]:
        with self._engine.connect() as connection:
            return [OwedStudy(**row._mapping) for row in connection.execute(query)]

    def _run(self, statement: sa.Update) -> int:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount


def _before(seconds: float) -> sa.ColumnElement[datetime]:
    return sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _silence() -> sa.ColumnElement[Any]:
    return sa.extract("epoch", sa.func.now() - NODE.c.beat_at)


def _silent_s() -> sa.Label[Any]:
    return _silence().label("silent_s")


def _is_study(name: str, study_uid: str) -> sa.ColumnElement[bool]:
    return sa.and_(UNFINISHED.c.name == name, UNFINISHED.c.study_instance_uid == study_uid)


def _owed(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    columns = ("name", "study_instance_uid", "instances", "tries")
    query = sa.select(*(UNFINISHED.c[column] for column in columns))
    return query.where(which, UNFINISHED.c.taken_by.is_(None))


def _set_aside(connection: sa.Connection, lost: sa.Row[Any]) -> None:
    """Let a node whose disk was lost stand under another name: its studies are still owed."""
    name = f"{lost.name}~{lost.installation[-12:]}"
    kept = {column: value for column, value in lost._mapping.items() if column in NODE.c}
    connection.execute(insert(NODE).values(kept | {"name": name}).on_conflict_do_nothing())
    mine = UNFINISHED.c.name == lost.name
    connection.execute(sa.update(UNFINISHED).where(mine).values(name=name))


def _to_node(row: sa.Row[Any]) -> NodeRow:
    return NodeRow(
        name=row.name,
        ae_title=row.ae_title,
        version=row.version,
        beat_at=row.beat_at,
        silent_s=float(row.silent_s),
        claimed_by=row.claimed_by,
        unfinished=row.unfinished or 0,
        taken=row.taken or 0,
        reason=row.reason or "",
    )


_DOWN: Final = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)


def _translate(context: sa.ExceptionContext) -> None:
    if isinstance(context.sqlalchemy_exception, _DOWN):
        cause = type(context.original_exception).__name__
        raise DatabaseDownError(
            f"the nodes' table cannot be used now ({cause}): see to the server of database:"
        ) from None
