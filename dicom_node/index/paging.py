"""Studies page by page, the latest first: each page is found without the ones before it."""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.index.moments import to_us
from dicom_node.index.rows import StudyRow, StudyState
from dicom_node.index.studies import study_rows, to_study
from dicom_node.index.tables import STUDY

#: Fewer studies that hold a part of a UID are looked up one by one; more lie close together.
_FEW: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page begins or ends: the last arrival in a study, and its UID."""

    last_received_us: int
    study_instance_uid: str

    @classmethod
    def of(cls, row: StudyRow) -> "Place":
        """Return the place of a study."""
        return cls(
            last_received_us=to_us(row.last_received_at), study_instance_uid=row.study_instance_uid
        )


class Paging:
    """The studies of an index, page by page; made by `Index`."""

    def __init__(self, reads: sa.Engine) -> None:
        self._reads = reads

    def page(
        self,
        limit: int,
        *,
        after: Place | None = None,
        state: StudyState | None = None,
        part: str = "",
    ) -> list[StudyRow]:
        """Return the studies after a place, the latest first.

        Parameters
        ----------
        limit : int
        after : Place or None
            The last study of the page before; None for the first page.
        state : StudyState or None
            Only studies in it.
        part : str
            Only studies whose UID holds it.
        """
        states = list(StudyState) if state is None else [state]
        uid, last = STUDY.c.study_instance_uid, STUDY.c.last_received_us
        holds = sa.func.instr(uid, part) > 0 if part else sa.true()
        with self._reads.connect() as connection:
            # a walk over UIDs alone, which their index holds: it is short where many have the part
            some = sa.select(uid).where(holds).limit(_FEW + 1)
            few = list(connection.scalars(some)) if part else []
            if part and len(few) <= _FEW:
                found = _ordered(after, states).where(uid.in_(few)).limit(limit)
                query = study_rows().where(uid.in_(found.scalar_subquery()))
            else:
                # state by state: each is one look into `study_by_state`
                each = [
                    _ordered(after, [one]).where(holds).limit(limit).subquery() for one in states
                ]
                query = study_rows().where(uid.in_(sa.union_all(*map(sa.select, each))))
            query = query.order_by(last.desc(), uid.desc()).limit(limit)
            return [to_study(row) for row in connection.execute(query)]


def _ordered(after: Place | None, states: list[StudyState]) -> sa.Select[Any]:
    """Ask for the UIDs of the studies in these states after a place, the latest first."""
    uid, last = STUDY.c.study_instance_uid, STUDY.c.last_received_us
    query = sa.select(uid).where(STUDY.c.state.in_(states)).order_by(last.desc(), uid.desc())
    if after is None:
        return query
    # the first term alone bounds the walk over the index; the second one breaks ties
    return query.where(
        last <= after.last_received_us,
        sa.or_(last < after.last_received_us, uid < after.study_instance_uid),
    )
