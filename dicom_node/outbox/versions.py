"""Which results of an image follow upon which."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.owing import withdraw
from dicom_node.outbox.tables import ANALYSED, DELIVERY, RESULT, VERSION
from dicom_node.records import Result

HAS_VERSION: Final = VERSION.c.sop_instance_uid == RESULT.c.sop_instance_uid
VERSIONS: Final = (VERSION.c.series_instance_uid, VERSION.c.version, VERSION.c.supersedes)


def results_with_versions() -> sa.Select[Any]:
    """Return the rows that `to_result` takes."""
    return sa.select(RESULT, *VERSIONS).select_from(RESULT.outerjoin(VERSION, HAS_VERSION))


def note_result(connection: sa.Connection, result: Result, at: float) -> None:
    """Write down an object that passed the gate, unless it stands there."""
    for table, values in ((RESULT, _result_values(result, at)), (VERSION, _version_values(result))):
        connection.execute(insert(table).values(values).on_conflict_do_nothing())


def _result_values(result: Result, at: float) -> dict[str, object]:
    return {
        "sop_instance_uid": result.sop_instance_uid,
        "kind": result.kind.value,
        "sop_class_uid": result.sop_class_uid,
        "study_instance_uid": result.study_instance_uid,
        "source_sop_instance_uid": result.source_sop_instance_uid,
        "file_name": result.path.name,
        "created_at": at,
    }


def _version_values(result: Result) -> dict[str, object]:
    return {
        "sop_instance_uid": result.sop_instance_uid,
        "series_instance_uid": result.series_instance_uid,
        "version": result.version,
        "supersedes": result.supersedes,
    }


def withdraw_before(connection: sa.Connection, source: str, version: int, at: float) -> None:
    """Send no more of what was said of an image before a version; what is stored stays."""
    earlier = (
        sa.select(RESULT.c.sop_instance_uid)
        .select_from(RESULT.outerjoin(VERSION, HAS_VERSION))
        .where(
            RESULT.c.source_sop_instance_uid == source,
            sa.func.coalesce(VERSION.c.version, 1) < version,
        )
    )
    withdraw(connection, DELIVERY.c.sop_instance_uid.in_(earlier), at)


def note_analysed(connection: sa.Connection, source: str, models: str, at: float) -> None:
    """Let `models` be the last that spoke of the image, also when the clock was set back."""
    latest = connection.scalar(
        sa.select(sa.func.max(ANALYSED.c.analysed_at)).where(
            ANALYSED.c.sop_instance_uid == source, ANALYSED.c.models != models
        )
    )
    done = insert(ANALYSED).values(
        sop_instance_uid=source,
        models=models,
        analysed_at=at if latest is None else max(at, latest + 1e-3),
    )
    connection.execute(
        done.on_conflict_do_update(
            index_elements=list(ANALYSED.primary_key),
            set_={"analysed_at": done.excluded.analysed_at},
        )
    )
