from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.completion import Completion, Completions, take_notices
from dicom_node.config import CountAt, StudySettings
from dicom_node.inbox import Disk, new_file_id
from dicom_node.index import Arrival, CountRow, Index
from dicom_node.notices import Notices
from dicom_node.records import Instance, Notice, NoticeKind, Reference

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
US_IMAGE, SR = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.88.34"
STUDY = "1.2.3"
SETTINGS = StudySettings(quiet_s=30, evidence_quiet_s=5, longest_s=600)
COMMITMENT, STEP, AVAILABILITY, REPORT = NoticeKind


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def arrive(
    index: Index, *numbers: int, after_s: float = 0, study: str = STUDY, sop_class: str = US_IMAGE
) -> None:
    """Register instances that came at a time."""
    for number in numbers:
        file_id = f"{number:024x}"
        instance = Instance(
            sop_instance_uid=f"1.5.{number}",
            sop_class_uid=sop_class,
            series_instance_uid=f"{study}.1",
            study_instance_uid=study,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            file_id=file_id,
            path=Path(f"{file_id}.dcm"),
            sha256=f"{number:064x}",
            size_bytes=100,
            received_at=at(after_s),
        )
        index.register([Arrival(instance=instance, patient_id="")])


def say(
    index: Index,
    kind: NoticeKind,
    *numbers: int,
    uid: str = "1.9",
    status: str = "",
    studies: tuple[str, ...] = (),
    ae_title: str = "MODALITY1",
) -> bool:
    """Take a notice that lists instances."""
    return index.evidence.take(
        Notice(
            file_id=new_file_id(),
            kind=kind,
            calling_ae_title=ae_title,
            host="192.0.2.1",
            uid=uid,
            status=status,
            study_instance_uids=studies,
            references=tuple(
                Reference(sop_class_uid=US_IMAGE, sop_instance_uid=f"1.5.{number}")
                for number in numbers
            ),
            received_at=NOON,
        )
    )


def due(index: Index, seconds: float, settings: StudySettings = SETTINGS) -> list[Completion]:
    return Completions(index, settings).due(at(seconds))


def reason(index: Index, seconds: float) -> str:
    """Return why the one study is complete, "" while it is not."""
    found = due(index, seconds)
    return found[0].reason if found else ""


def complete(index: Index, seconds: float) -> None:
    [done] = due(index, seconds)
    index.complete(
        done.study_instance_uid, reason=done.reason, evidence=done.evidence, now=at(seconds)
    )


def test_without_a_word_the_quiet_time_decides(index: Index) -> None:
    arrive(index, 1)
    assert reason(index, 29) == ""
    assert reason(index, 30) == "nothing came for 30 s"


def test_a_commitment_of_everything_needs_the_short_quiet_time(index: Index) -> None:
    arrive(index, *range(12))
    say(index, COMMITMENT, *range(12))
    assert reason(index, 4) == ""
    [done] = due(index, 5)
    assert done.reason == (
        "storage commitment by MODALITY1 listed 12 instances, all are here; nothing came for 5 s"
    )
    assert done.evidence == {
        "quiet_s": 5,
        "instances": 12,
        "storage commitment": {
            "ae_titles": ("MODALITY1",),
            "listed": 12,
            "missing": 0,
            "unlisted": 0,
            "running": 0,
        },
    }


def test_commitments_of_single_images_count_together(index: Index) -> None:
    for number in range(3):
        arrive(index, number)
        say(index, COMMITMENT, number, uid=f"1.9.{number}")
    assert "listed 3 instances, all are here" in reason(index, 5)


def test_an_image_that_no_commitment_lists_waits_for_the_quiet_time(index: Index) -> None:
    arrive(index, 1, 2)
    say(index, COMMITMENT, 1)
    assert reason(index, 29) == ""
    assert reason(index, 30) == (
        "storage commitment by MODALITY1 listed 1 instance, 1 new image(s) not among them; "
        "nothing came for 30 s"
    )


def test_a_result_that_came_back_need_not_be_listed(index: Index) -> None:
    arrive(index, 1)
    arrive(index, 2, sop_class=SR)
    say(index, COMMITMENT, 1)
    assert "all are here" in reason(index, 5)


def test_what_is_listed_and_never_came_holds_the_study_back(index: Index) -> None:
    arrive(index, 1)
    say(index, COMMITMENT, 1, 2)
    assert reason(index, 29) == ""
    arrive(index, 2, after_s=10)
    assert "listed 2 instances, all are here" in reason(index, 15)


def test_a_word_that_comes_in_the_lull_is_heard(index: Index) -> None:
    completions = Completions(index, SETTINGS)
    arrive(index, 1)
    assert completions.due(at(6)) == []
    say(index, COMMITMENT, 1)
    assert len(completions.due(at(7))) == 1


def test_a_lull_that_follows_another_between_two_looks_is_looked_at(index: Index) -> None:
    completions = Completions(index, SETTINGS)
    arrive(index, 1)
    say(index, COMMITMENT, 1, 2)
    assert completions.due(at(6)) == []
    arrive(index, 2, after_s=8)
    [done] = completions.due(at(13))
    assert "listed 2 instances, all are here" in done.reason


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_procedure_step_speaks_once_it_ended(index: Index, status: str) -> None:
    say(index, STEP, status="IN PROGRESS", studies=(STUDY,))
    arrive(index, 1)
    assert reason(index, 6) == ""
    assert say(index, STEP, 1, status=status)
    assert "procedure step of MODALITY1 names 1 instance, all are here" in reason(index, 6)


def test_another_step_of_the_study_that_still_runs_holds_it_back(index: Index) -> None:
    arrive(index, 1)
    say(index, STEP, status="IN PROGRESS", studies=(STUDY,), uid="1.7")
    say(index, STEP, 1, status="COMPLETED", studies=(STUDY,), uid="1.8")
    assert reason(index, 6) == ""
    assert "1 procedure step(s) not ended" in reason(index, 30)


def test_a_step_that_ended_does_not_change_any_more(index: Index) -> None:
    say(index, STEP, 1, status="COMPLETED")
    assert not say(index, STEP, 1, 2, status="IN PROGRESS")
    arrive(index, 1)
    assert "all are here" in reason(index, 5)


def test_a_step_that_names_nothing_is_no_evidence(index: Index) -> None:
    arrive(index, 1)
    say(index, STEP, status="COMPLETED", studies=(STUDY,))
    assert reason(index, 29) == ""


def test_steps_of_two_systems_with_one_uid_are_two_steps(index: Index) -> None:
    assert say(index, STEP, 1, status="COMPLETED")
    assert say(index, STEP, status="IN PROGRESS", studies=(STUDY,), ae_title="OTHER")
    arrive(index, 1)
    assert reason(index, 6) == ""


def test_availability_of_everything_is_evidence(index: Index) -> None:
    arrive(index, 1, 2)
    say(index, AVAILABILITY, 1, 2, studies=(STUDY,), ae_title="PACS")
    assert "instance availability by PACS listed 2 instances, all are here" in reason(index, 5)


def test_a_late_image_needs_a_word_of_its_own(index: Index) -> None:
    arrive(index, 1)
    say(index, COMMITMENT, 1)
    complete(index, 5)
    arrive(index, 2, after_s=100)
    assert reason(index, 106) == ""
    say(index, COMMITMENT, 2, uid="1.10")
    assert "listed 1 instance, all are here" in reason(index, 106)


def test_a_study_that_never_rests_is_due_after_the_longest_time(index: Index) -> None:
    for seconds in range(0, 601, 3):
        arrive(index, seconds, after_s=seconds)
    assert reason(index, 599) == ""
    assert reason(index, 601) == "the first new instance came at least 600 s ago"


def test_the_longest_time_counts_from_the_first_late_image(index: Index) -> None:
    arrive(index, 1)
    complete(index, 30)
    for seconds in range(5000, 5590, 3):
        arrive(index, seconds, after_s=seconds)
    assert reason(index, 5590) == ""
    arrive(index, 9, after_s=5600)
    assert reason(index, 5601) == "the first new instance came at least 600 s ago"


COUNTING = SETTINGS.model_copy(
    update={"count_at": CountAt(ae_title="PACS", host="127.0.0.1", port=104)}
)


def count(index: Index, instances: int, last_s: float = 0) -> None:
    answer = CountRow(ae_title="PACS", instances=instances, last_received_at=at(last_s))
    index.evidence.note_count(STUDY, answer)


def test_the_count_of_a_pacs_is_evidence_while_nothing_else_comes(index: Index) -> None:
    arrive(index, 1, 2)
    count(index, 2)
    [done] = due(index, 5, COUNTING)
    assert done.reason == "PACS counts 2 instances, all are here; nothing came for 5 s"
    arrive(index, 3, after_s=6)
    assert due(index, 12, COUNTING) == []


def test_another_count_is_told_when_the_quiet_time_ends(index: Index) -> None:
    arrive(index, 1, 2)
    count(index, 7)
    assert due(index, 29, COUNTING) == []
    [done] = due(index, 30, COUNTING)
    assert done.reason == "PACS counts 7 instances, 2 are here; nothing came for 30 s"


def test_a_pacs_is_asked_once_in_a_lull(index: Index) -> None:
    completions = Completions(index, COUNTING)
    arrive(index, 1)
    assert completions.to_count(at(4)) == []
    assert completions.to_count(at(5)) == [(STUDY, NOON)]
    count(index, 7)
    assert completions.to_count(at(6)) == []
    arrive(index, 2, after_s=7)
    assert len(completions.to_count(at(12))) == 1


def test_a_restart_forgets_no_word(tmp_path: Path) -> None:
    first = Index(tmp_path / "index.db")
    arrive(first, 1)
    say(first, COMMITMENT, 1)
    first.close()
    again = Index(tmp_path / "index.db")
    assert "all are here" in reason(again, 5)
    again.close()


def noticed(kind: NoticeKind, calling_ae_title: str) -> Notice:
    """Return what a receiver writes down of a message about one image."""
    return Notice(
        file_id=new_file_id(),
        kind=kind,
        calling_ae_title=calling_ae_title,
        host="192.0.2.1",
        uid="1.9",
        status="",
        study_instance_uids=(),
        references=(Reference(sop_class_uid=US_IMAGE, sop_instance_uid="1.5.1"),),
        received_at=NOON,
    )


def test_notices_leave_the_spool_once_the_index_has_them(tmp_path: Path, index: Index) -> None:
    notices = Notices(tmp_path / "notices", disk=Disk(), check_room=lambda: None)
    notice = noticed(COMMITMENT, "MODALITY1")
    notices.write(notice)
    # the state that a kill leaves between the row and the removal
    assert index.evidence.take(notice)
    assert take_notices(notices, index, on_report=lambda _: True) == 0
    assert len(notices) == 0
    assert [row.transaction_uid for row in index.commitments.latest(9)] == ["1.9"]


def test_a_report_on_what_the_node_asked_for_is_no_evidence(index: Index, tmp_path: Path) -> None:
    notices = Notices(tmp_path / "notices", disk=Disk(), check_room=lambda: None)
    arrive(index, 1)
    report = noticed(REPORT, "PACS")
    notices.write(report)
    taken: list[Notice] = []

    def take(given: Notice) -> bool:
        assert len(notices) == 1, "it goes when it is taken"
        taken.append(given)
        return True

    assert take_notices(notices, index, on_report=take) == 1
    assert taken == [report]
    assert len(notices) == 0
    assert index.evidence.serial() == 0
    assert index.commitments.latest(9) == []
