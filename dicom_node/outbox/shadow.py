"""Results of models in the shadow: kept, counted, and owed to nobody, now or later.

They stand in ``result`` as all results do, and a row of ``shadow`` keeps them out of everything
that is sent. Their editions are counted apart: what is sent of an image does not follow upon them.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.tables import METADATA, RESULT, VERSION
from dicom_node.outbox.versions import results_with_versions
from dicom_node.records import Result, ResultKind

SHADOW: Final = sa.Table(
    "shadow",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
)
# which models in the shadow spoke of an image last
SHADOW_ANALYSED: Final = sa.Table(
    "shadow_analysed",
    METADATA,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("models", sa.String, nullable=False),
)
IS_SHADOW: Final = RESULT.c.sop_instance_uid.in_(sa.select(SHADOW.c.sop_instance_uid))


def note_shadow(
    connection: sa.Connection, results: Sequence[Result], analysed: str, models: str
) -> None:
    """Mark results that stand in ``result`` as kept for nobody."""
    for result in results:
        row = insert(SHADOW).values(sop_instance_uid=result.sop_instance_uid)
        connection.execute(row.on_conflict_do_nothing())
    done = insert(SHADOW_ANALYSED).values(sop_instance_uid=analysed, models=models)
    connection.execute(
        done.on_conflict_do_update(
            index_elements=list(SHADOW_ANALYSED.primary_key), set_={"models": models}
        )
    )


def shadow_models(connection: sa.Connection, sop_instance_uid: str) -> str | None:
    """Return which models in the shadow spoke of an image last."""
    query = sa.select(SHADOW_ANALYSED.c.models).where(
        SHADOW_ANALYSED.c.sop_instance_uid == sop_instance_uid
    )
    found: str | None = connection.scalar(query)
    return found


def shadow_results(study_instance_uid: str) -> sa.Select[Any]:
    """Ask for the results of a study that are kept for nobody."""
    return results_with_versions().where(
        IS_SHADOW, RESULT.c.study_instance_uid == study_instance_uid
    )


def shadow_pairs(connection: sa.Connection, most: int) -> list[tuple[sa.Row[Any], sa.Row[Any]]]:
    """Return the last reports of the shadow, each with the last one that serves of its image."""
    is_report = RESULT.c.kind == ResultKind.SR.value
    kept = results_with_versions().where(IS_SHADOW, is_report).order_by(RESULT.c.created_at.desc())
    in_shadow = connection.execute(kept.limit(most)).all()
    images = {row.source_sop_instance_uid for row in in_shadow}
    serving = results_with_versions().where(
        RESULT.c.source_sop_instance_uid.in_(images), is_report, sa.not_(IS_SHADOW)
    )
    latest: dict[str, sa.Row[Any]] = {}
    for row in connection.execute(serving.order_by(sa.func.coalesce(VERSION.c.version, 1))):
        latest[row.source_sop_instance_uid] = row
    return [
        (row, latest[row.source_sop_instance_uid])
        for row in in_shadow
        if row.source_sop_instance_uid in latest
    ]
