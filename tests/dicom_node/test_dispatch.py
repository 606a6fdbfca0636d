"""What is handed out when, with a dispatcher that only remembers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from dicom_node.config import Config, CountAt, NodeSettings, StudySettings
from dicom_node.inbox import began_at, new_file_id
from dicom_node.index import StudyState
from dicom_node.jobs import Dispatcher
from dicom_node.node.worker import open_parts
from dicom_node.notices import open_notices
from dicom_node.pipeline import Dispatch, Parts
from dicom_node.records import Notice, NoticeKind, Reference
from dicom_node.register import register_waiting
from tests.support.waiting import SC_IMAGE, came, put, put_bytes, without_quarantine

QUIET_S = 3600


@dataclass
class Remembering:
    """Stands where jobs are handed out."""

    jobs: list[tuple[str, str]] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)

    def enqueue(
        self, kind: str, job_id: str, arguments: Sequence[str], *, partition: str | None = None
    ) -> None:
        self.jobs.append((kind, job_id))
        self.arguments.append(list(arguments))

    def knows(self, job_id: str) -> bool:
        return job_id in {known for _, known in self.jobs}

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.jobs]


@pytest.fixture
def handed_out() -> Remembering:
    return Remembering()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    at = CountAt(ae_title="PACS", host="127.0.0.1", port=1)
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        study=StudySettings(quiet_s=QUIET_S, evidence_quiet_s=1e-3, longest_s=QUIET_S, count_at=at),
    )
    with open_parts(config) as opened:
        yield opened


@pytest.fixture
def dispatch(parts: Parts, handed_out: Remembering) -> Dispatch:
    return Dispatch(parts, cast(Dispatcher, handed_out))


def receive(parts: Parts, number: int) -> str:
    return put(parts.inbox, number)


def request(parts: Parts, host: str = "127.0.0.1", uid: str = "1.9") -> None:
    """Let a commitment request be noticed as a receiver does."""
    notice = Notice(
        file_id=new_file_id(),
        kind=NoticeKind.COMMITMENT,
        calling_ae_title="PEER",
        host=host,
        uid=uid,
        status="",
        study_instance_uids=(),
        references=(Reference(sop_class_uid=SC_IMAGE, sop_instance_uid="1.5.0"),),
        received_at=datetime.now(UTC),
    )
    open_notices(parts.inbox).write(notice)


def test_no_report_is_made_while_something_older_than_the_request_waits(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    for number in range(300):
        receive(parts, number)
    request(parts)
    assert dispatch.register() == 256
    dispatch.deliver()
    assert handed_out.jobs == []
    assert dispatch.register() == 44
    dispatch.deliver()
    assert handed_out.kinds() == ["commitment"]


def test_a_report_does_not_wait_for_what_came_after_the_request(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    receive(parts, 0)
    request(parts)
    for number in range(1, 300):
        receive(parts, number)
    assert dispatch.register() == 256
    dispatch.deliver()
    assert handed_out.kinds() == ["commitment"]


def test_a_report_is_handed_out_once_for_each_attempt(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    request(parts)
    for _ in range(3):
        dispatch.register()
        dispatch.deliver()
    assert handed_out.kinds() == ["commitment"]
    again = Dispatch(parts, cast(Dispatcher, handed_out))
    again.register()
    again.deliver()
    assert handed_out.kinds() == ["commitment"]


def test_a_process_that_died_before_it_noted_an_attempt_does_not_hold_the_next_one_back(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    request(parts)
    dispatch.register()
    [row] = parts.index.commitments.due(datetime.now(UTC))
    handed_out.jobs.append(("commitment", f"commitment:{row.file_id}:0"))
    dispatch.deliver()
    assert handed_out.jobs[-1] == ("commitment", f"commitment:{row.file_id}:1")


def test_the_reports_of_one_requester_are_one_job(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    for number, host in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.1")):
        request(parts, host, uid=f"1.9.{number}")
    dispatch.register()
    first, second, third = parts.index.commitments.due(datetime.now(UTC))
    for _ in range(2):
        dispatch.deliver()
    assert handed_out.kinds() == ["commitment", "commitment"]
    assert handed_out.arguments == [
        [first.file_id, "0", third.file_id],
        [second.file_id, "0"],
    ]


def test_a_pacs_is_asked_once_in_a_lull_and_again_in_the_next(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    for number in range(2):
        receive(parts, number)
        dispatch.register()
        for _ in range(3):
            dispatch.complete()
    assert handed_out.kinds() == ["count", "count"]
    assert len(set(handed_out.jobs)) == 2


def state(parts: Parts) -> StudyState:
    row = parts.index.study("1.2")
    assert row is not None
    return row.state


def a_moment_less_than_quiet_before(file_id: str) -> datetime:
    """Return when a file came that was not quiet when another was begun, and is now."""
    return began_at(file_id) - timedelta(seconds=QUIET_S) + timedelta(milliseconds=1)


def test_a_study_is_not_complete_while_something_of_it_waits(
    parts: Parts, dispatch: Dispatch
) -> None:
    first, second = (receive(parts, number) for number in range(2))
    came(parts.inbox.path(first), a_moment_less_than_quiet_before(second))
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC), limit=1)
    dispatch.complete()
    assert parts.inbox.waiting() == [second]
    assert state(parts) is StudyState.OPEN
    dispatch.register()
    dispatch.complete()
    assert state(parts) is StudyState.COMPLETE


def test_a_file_that_cannot_be_put_aside_holds_no_study_open_and_no_report_back(
    parts: Parts, dispatch: Dispatch, handed_out: Remembering
) -> None:
    first = receive(parts, 0)
    stuck = put_bytes(parts.inbox, b"noise")
    request(parts)
    came(parts.inbox.path(first), a_moment_less_than_quiet_before(stuck))
    with without_quarantine(parts.inbox):
        assert dispatch.register() == 1
        dispatch.complete()
        dispatch.deliver()
    assert parts.inbox.waiting() == [stuck]
    assert state(parts) is StudyState.COMPLETE
    assert "commitment" in handed_out.kinds()
