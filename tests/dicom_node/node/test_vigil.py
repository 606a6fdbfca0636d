import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node import log
from dicom_node.config import Config, FetchFrom, NodeSettings, StudySettings
from dicom_node.errors import ModelServerDownError
from dicom_node.jobs import Dispatcher, Kind, Worker
from dicom_node.node.vigil import Vigil
from dicom_node.node.worker import open_parts
from dicom_node.pipeline import Parts
from dicom_node.records import Result, ResultKind
from dicom_node.register import register_waiting
from dicom_node.roster import Roster
from dicom_node.roster.tables import NODE, UNFINISHED
from tests.support.nodes import until
from tests.support.waiting import put

pytestmark = pytest.mark.peers

PACS = FetchFrom(ae_title="PACS", host="127.0.0.1", port=1)
STUDY = "1.2.1"


class Member:
    """A node of the database, without its processes."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher) -> None:
        assert parts.roster is not None
        self.parts, self.dispatcher, self.roster = parts, dispatcher, parts.roster
        self.vigil = Vigil(parts, self.roster, dispatcher)

    def round(self) -> None:
        """Make a round with a beat."""
        self.vigil._beat_at -= self.vigil.beats_every_s + 1
        self.vigil.round()

    def receive(self, number: int, study: str = STUDY) -> None:
        put(self.parts.inbox, number, study=study)
        register_waiting(self.parts.inbox, self.parts.index, now=datetime.now(UTC))

    def complete(self, study: str = STUDY) -> str:
        """Complete a study and hand out its job; return the job's id."""
        index, now = self.parts.index, datetime.now(UTC)
        revision = index.complete(study, reason="", evidence={}, now=now)
        job = f"study:{study}:{revision}:0"
        self.dispatcher.enqueue("study", job, [study, str(revision)])
        return job

    def cancel(self, job: str) -> None:
        found = self.dispatcher.find(job)
        assert found is not None
        self.dispatcher.cancel(found)


@pytest.fixture
def enter(tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., Member]]:
    """Return a function that lets a node of a name join."""
    with ExitStack() as stack:
        Worker(postgres_url, {}, executor_id="migrating").close(timeout_s=1)

        def join(name: str, fetch_from: FetchFrom | None = PACS) -> Member:
            config = Config(
                node=NodeSettings(data=tmp_path / name, name=name, min_free_gib=0),
                study=StudySettings(fetch_from=fetch_from),
                database=postgres_url,
            )
            parts = stack.enter_context(open_parts(config))
            assert parts.roster is not None
            parts.roster.join(installation=name, ae_title=name.upper(), dead_after_s=60)
            dispatcher = Dispatcher(postgres_url, name)
            stack.callback(dispatcher.close)
            return Member(parts, dispatcher)

        yield join


def change(roster: Roster, statement: sa.Update) -> None:
    with roster._engine.begin() as connection:
        connection.execute(statement)


def die(roster: Roster, name: str) -> None:
    beat_at = NODE.c.beat_at - timedelta(minutes=2)
    change(roster, sa.update(NODE).where(NODE.c.name == name).values(beat_at=beat_at))


def unfinished(member: Member) -> int:
    return {row.name: row.unfinished for row in member.roster.nodes()}[member.roster.name]


def test_a_study_is_listed_until_it_is_finished_and_delivered(
    enter: Callable[..., Member], tmp_path: Path
) -> None:
    a = enter("a")
    a.round()
    assert unfinished(a) == 0
    a.receive(1)
    a.vigil.round()
    assert unfinished(a) == 1, "it is open"
    a.complete()
    a.vigil.round()
    assert unfinished(a) == 1, "its job waits"
    result = Result(
        kind=ResultKind.SR,
        sop_instance_uid="1.77",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid=STUDY,
        source_sop_instance_uid="1.5.1",
        path=tmp_path / "1.77.dcm",
    )
    now = datetime.now(UTC)
    a.parts.outbox.add([result], [(result, "pacs")], analysed="1.5.1", models="m", now=now)
    a.parts.index.finish(STUDY, 1)
    a.vigil.round()
    assert unfinished(a) == 1, "its result waits"
    a.parts.outbox.delivered("1.77", "pacs", status=0, now=now)
    a.vigil.round()
    assert unfinished(a) == 0


def test_what_a_person_stopped_is_left_to_that_person(enter: Callable[..., Member]) -> None:
    a = enter("a")
    a.receive(1)
    a.cancel(a.complete())
    a.round()
    assert unfinished(a) == 0


@pytest.mark.parametrize(
    ("error", "left"), [(ModelServerDownError(), 1), (ValueError(), 0)], ids=["put off", "failed"]
)
def test_what_a_model_server_put_off_others_may_take_over(
    enter: Callable[..., Member], postgres_url: str, error: Exception, left: int
) -> None:
    def fail(_: Sequence[str]) -> dict[str, int]:
        raise error

    a = enter("a")
    a.receive(1)
    a.complete()
    kinds = {"study": Kind(stages=(("fail", fail),), at_once=1)}
    worker = Worker(postgres_url, kinds, executor_id="a")
    until(a.dispatcher.failed)
    worker.close(timeout_s=5)
    a.round()
    assert unfinished(a) == left


def test_the_studies_of_a_dead_node_are_asked_for_by_jobs(enter: Callable[..., Member]) -> None:
    a, b, c = enter("a"), enter("b"), enter("c")
    a.receive(1)
    a.round()
    b.round()
    assert b.dispatcher.unfinished() == []
    die(b.roster, "a")
    for _ in range(2):
        b.round()
        c.round()
    [job] = b.dispatcher.unfinished()
    assert (job.kind, job.is_about(STUDY)) == ("fetch", True)
    assert c.dispatcher.unfinished() == []


def test_without_a_pacs_to_ask_that_is_said_once(
    enter: Callable[..., Member], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = enter("a"), enter("b", fetch_from=None)
    a.receive(1)
    a.round()
    die(b.roster, "a")
    log.configure()
    for _ in range(3):
        b.round()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said: list[dict[str, Any]] = [line for line in lines if line["event"] == "node is dead"]
    assert [line["what"] for line in said] == ["a"]
    assert "study.fetch_from" in said[0]["reason"]
    assert b.dispatcher.unfinished() == []


def test_a_node_that_was_not_dead_goes_on_with_what_was_taken_over(
    enter: Callable[..., Member],
) -> None:
    a, b = enter("a"), enter("b")
    a.receive(1)
    job = a.complete()
    a.round()
    study = b.roster.find("a", STUDY)
    assert study is not None
    b.roster.take(study)
    with closing(Dispatcher(str(a.parts.config.database), "b")) as other:
        for theirs in other.unfinished_of("a"):
            other.cancel(theirs)
    a.round()
    assert [row.job_id for row in a.dispatcher.cancelled()] == [f"{job}@a"]
    change(a.roster, sa.update(UNFINISHED).values(tried_at=sa.func.now() - timedelta(minutes=1)))
    a.round()
    assert [row.job_id for row in a.dispatcher.unfinished()] == [f"{job}@a"]
    assert a.dispatcher.cancelled() == []
    assert unfinished(a) == 1
    a.parts.index.finish(STUDY, 1)
    a.vigil.round()
    assert unfinished(a) == 0
