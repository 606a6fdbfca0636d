"""Which studies of an archive are here whole: what a harvest does not ask for again.

And which failed: what it asks for last.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading, open_sqlite
from dicom_node.pull.asked import FoundStudy

METADATA = sa.MetaData()

WHOLE = sa.Table(
    "whole",
    METADATA,
    #: by name, as in the configuration
    sa.Column("archive", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    #: how many instances the archive counted then; null where it does not count
    sa.Column("counted", sa.Integer),
    #: how many there were
    sa.Column("instances", sa.Integer, nullable=False),
)

FAILED = sa.Table(
    "failed",
    METADATA,
    sa.Column("archive", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    #: how often the archive failed when it was asked for this study
    sa.Column("times", sa.Integer, nullable=False),
)


class Journal:
    """A SQLite file; its folder must exist. What is noted survives a power cut."""

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path, METADATA)
        self._reads = for_reading(self._engine)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def whole(self, archive: str) -> dict[str, tuple[int | None, int]]:
        """Return (counted, instances) of the studies of an archive that are here whole."""
        columns = (WHOLE.c.study_instance_uid, WHOLE.c.counted, WHOLE.c.instances)
        query = sa.select(*columns).where(WHOLE.c.archive == archive)
        with self._reads.connect() as connection:
            return {
                row.study_instance_uid: (row.counted, row.instances)
                for row in connection.execute(query)
            }

    def note(self, archive: str, study: FoundStudy, *, instances: int) -> None:
        """Note that a study is here whole; the latest note counts, and none says that it failed."""
        row = insert(WHOLE).values(
            archive=archive,
            study_instance_uid=study.study_instance_uid,
            counted=study.instances,
            instances=instances,
        )
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[WHOLE.c.archive, WHOLE.c.study_instance_uid],
                    set_={"counted": row.excluded.counted, "instances": row.excluded.instances},
                )
            )
            connection.execute(
                sa.delete(FAILED).where(
                    FAILED.c.archive == archive,
                    FAILED.c.study_instance_uid == study.study_instance_uid,
                )
            )

    def failures(self, archive: str) -> dict[str, int]:
        """Return how often each study of an archive failed that is not here whole since then."""
        query = sa.select(FAILED.c.study_instance_uid, FAILED.c.times).where(
            FAILED.c.archive == archive
        )
        with self._reads.connect() as connection:
            return {row.study_instance_uid: row.times for row in connection.execute(query)}

    def note_failure(self, archive: str, study: FoundStudy) -> None:
        """Note that the archive failed when it was asked for a study."""
        row = insert(FAILED).values(
            archive=archive, study_instance_uid=study.study_instance_uid, times=1
        )
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[FAILED.c.archive, FAILED.c.study_instance_uid],
                    set_={"times": FAILED.c.times + 1},
                )
            )
