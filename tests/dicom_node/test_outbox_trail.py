import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.outbox import Outbox, Said
from tests.support.analyses import STILL, analysis_of, emptied, failure, pydicom_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
ANALYSIS = replace(analysis_of(pydicom_file(STILL)), failures=(failure(),))
STUDY = ANALYSIS.instance.study_instance_uid


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as box:
        yield box


def test_what_each_model_said_of_an_image_is_kept_with_its_digest(outbox: Outbox) -> None:
    outbox.trail.note(ANALYSIS, rejected="", now=NOW)
    answers = {row.name: row for row in outbox.trail.answers(STUDY)}
    assert {name: row.said for name, row in answers.items()} == {
        "liver-kidney": Said.FOUND,
        "view-quality": Said.SCORED,
        "broken-model": Said.FAILED,
    }
    assert answers["broken-model"].reason == "the pixels cannot be decoded"
    assert answers["view-quality"].digest == ANALYSIS.qualities[0].algorithm.digest
    assert outbox.trail.rejections(STUDY) == []


def test_an_image_that_is_analysed_again_has_its_last_answers_alone(outbox: Outbox) -> None:
    outbox.trail.note(ANALYSIS, rejected="the SR did not pass the gate: summary", now=NOW)
    [rejection] = outbox.trail.rejections(STUDY)
    assert (rejection.reason, rejection.rejected_at) == (
        "the SR did not pass the gate: summary",
        NOW,
    )
    again = replace(
        ANALYSIS, segmentations=(emptied(ANALYSIS.segmentations[0]),), qualities=(), failures=()
    )
    outbox.trail.note(again, rejected="", now=LATER)
    [answer] = outbox.trail.answers(STUDY)
    assert (answer.said, answer.answered_at) == (Said.NOTHING_FOUND, LATER)
    assert outbox.trail.rejections() == []


def test_the_last_harvest_of_an_image_stands(outbox: Outbox) -> None:
    outbox.trail.note_harvest(ANALYSIS.instance, {"frames stored": 1}, NOW)
    outbox.trail.note_harvest(ANALYSIS.instance, {"already stored": 1}, LATER)
    [row] = outbox.trail.harvested(STUDY)
    assert (row.counts, row.harvested_at) == ({"already stored": 1}, LATER)


def test_an_outbox_of_a_former_program_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    Outbox(path, tmp_path).close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("harvested", "answer", "rejection"):
            connection.execute(f"DROP TABLE {table}")
        connection.commit()
    with closing(Outbox(path, tmp_path)) as outbox:
        assert outbox.trail.answers(STUDY) == []
        outbox.trail.note(ANALYSIS, rejected="", now=NOW)
        assert len(outbox.trail.answers(STUDY)) == 3
