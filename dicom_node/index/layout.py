"""The layout of ``index.db``, and how one of a former version of the program is brought to it."""

from typing import Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import PermanentError
from dicom_node.index.rows import StudyState
from dicom_node.index.studies import note_last_completions
from dicom_node.index.tables import FRESH, INSTANCE, OPENING, STUDY

#: ``PRAGMA user_version``; 0 is the layout before there was one, without FRESH and OPENING; 1 had
#: no COMPLETION.
LAYOUT: Final = 2


def bring_up_to_date(engine: sa.Engine) -> None:
    """Fill the tables that a former version did not have; they are there and empty.

    Raises
    ------
    PermanentError
        When a later version of the program wrote the file.
    """
    with for_reading(engine).connect() as connection:
        if _version(connection) == LAYOUT:
            return
    with engine.begin() as connection:
        version = _version(connection)
        if version > LAYOUT:
            raise PermanentError(
                f"index.db has layout {version}, this program knows {LAYOUT}: run the later "
                "version, or remove index.db* and it is rebuilt from the inbox"
            )
        if version < 1:
            _open_anew(connection)
        if version < 2:
            note_last_completions(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={LAYOUT}")


def _open_anew(connection: sa.Connection) -> None:
    """Take everything in the open studies for new: which of it came late was not written down."""
    is_open = STUDY.c.state == StudyState.OPEN
    studies = sa.select(STUDY.c.study_instance_uid, STUDY.c.first_received_us).where(is_open)
    connection.execute(sa.insert(OPENING).from_select(list(OPENING.c), studies))
    instances = (
        sa.select(INSTANCE.c.sop_instance_uid, INSTANCE.c.study_instance_uid)
        .select_from(INSTANCE.join(STUDY))
        .where(is_open)
    )
    connection.execute(sa.insert(FRESH).from_select(list(FRESH.c), instances))


def _version(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
