import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node import metrics
from dicom_node.index import Index
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url
from dicom_node.metrics import Page
from dicom_node.node.vitals import SAMPLE_S, Vitals, watched
from dicom_node.outbox import Outbox
from dicom_node.records import Result, ResultKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOW.timestamp()

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    yield box
    box.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


@pytest.fixture
def dispatcher(tmp_path: Path) -> Iterator[Dispatcher]:
    url = database_url(tmp_path / "jobs.db", None)
    worker = Worker(url, {}, executor_id="test")
    dispatcher = Dispatcher(url)
    yield dispatcher
    dispatcher.close()
    worker.close(timeout_s=1)


def owe(outbox: Outbox, uid: str, *destinations: str) -> None:
    result = Result(
        kind=ResultKind.SEG,
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        study_instance_uid="1.2",
        source_sop_instance_uid="1.9",
        path=Path(f"{uid}.dcm"),
    )
    owed = [(result, name) for name in destinations]
    outbox.add([result], owed, analysed="1.9", models="m", now=NOW)


def test_the_backlog_of_each_destination_is_told_also_when_it_is_gone(
    index: Index, outbox: Outbox, dispatcher: Dispatcher
) -> None:
    page, clock = Page(["pacs"]), Clock()
    vitals = Vitals(page, index, outbox, dispatcher, clock=clock)
    owe(outbox, "1.1", "pacs", "removed")
    owe(outbox, "1.2", "pacs")
    clock.at += 90
    vitals.sample()
    assert page.values(metrics.OUTBOX_WAITING) == {("pacs",): 2, ("other",): 1}
    assert page.get(metrics.OUTBOX_OLDEST, "pacs") == 90
    outbox.delivered("1.1", "pacs", status=0, now=NOW)
    outbox.bury("1.2", "pacs", status=None, reason="no", now=NOW)
    vitals.sample()
    assert page.get(metrics.OUTBOX_WAITING, "pacs") == 0
    assert page.get(metrics.OUTBOX_OLDEST, "pacs") == 0
    assert page.get(metrics.OUTBOX_DEAD, "pacs") == 1
    outbox.promises.stored("1.1", "pacs", status=0, now=NOW)
    vitals.sample()
    assert page.get(metrics.OUTBOX_STORED, "pacs") == 1
    assert page.get(metrics.OUTBOX_WAITING, "pacs") == 0


def test_it_is_told_how_long_a_destination_is_down_until_it_answers(
    index: Index, outbox: Outbox, dispatcher: Dispatcher
) -> None:
    page, clock = Page(["pacs"]), Clock()
    vitals = Vitals(page, index, outbox, dispatcher, clock=clock)
    for _ in range(2):
        outbox.outages.failed("pacs", reason="refused", now=NOW, rng=random.Random(0))
    clock.at += 90
    vitals.sample()
    assert page.get(metrics.DOWN, "pacs") == 90
    outbox.outages.ended("pacs")
    vitals.sample()
    assert page.get(metrics.DOWN, "pacs") == 0


def test_databases_are_counted_now_and_then_and_life_is_shown_always(
    index: Index, outbox: Outbox, dispatcher: Dispatcher
) -> None:
    page, clock = Page(["pacs"]), Clock()
    vitals = Vitals(page, index, outbox, dispatcher, clock=clock)
    vitals.swept()
    owe(outbox, "1.1", "pacs")
    clock.at += SAMPLE_S / 2
    vitals.swept()
    assert page.get(metrics.ALIVE_AT) == clock.at
    assert page.get(metrics.OUTBOX_WAITING, "pacs") == 0
    clock.at += SAMPLE_S
    vitals.swept()
    assert page.get(metrics.OUTBOX_WAITING, "pacs") == 1


def test_a_stage_that_fails_is_counted_and_fails() -> None:
    page, clock = Page(), Clock()

    def fail(_: Sequence[str]) -> dict[str, int]:
        raise OSError(28, "No space left on device")

    kinds = {"study": Kind(stages=(("harvest", fail), ("finish", lambda _: {"n": 1})), at_once=1)}
    (_, harvest), (_, finish) = watched(kinds, page, clock=clock)["study"].stages
    with pytest.raises(OSError, match="No space"):
        harvest([])
    assert finish([]) == {"n": 1}
    assert page.get(metrics.STAGE_FAILURES, "harvest") == 1
    assert page.get(metrics.STAGE_FAILURES, "finish") == 0
    assert sum(page.rows(metrics.STAGE_SECONDS)[("harvest",)][:-1]) == 1
    assert page.get(metrics.PROGRESS_AT) == clock.at
