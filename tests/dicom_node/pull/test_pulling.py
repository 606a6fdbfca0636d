from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest

from dicom_node.archives import PaceSettings
from dicom_node.errors import DestinationDownError, NodeError, NotGivenError, TemporaryError
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.pull.asked import Answer, FoundStudy, Image, Listing, Span, Wanted
from dicom_node.pull.journal import Journal
from dicom_node.pull.pace import Clock, Pace
from dicom_node.pull.pulling import MOST_FAILURES, Desk, Pull
from dicom_node.pull.reconciled import Reconciled, Told
from dicom_node.register import register_waiting
from tests.support.waiting import put

DAY = date(2024, 1, 2)


@dataclass
class SmallArchive:
    """An archive of studies, each some numbers of `put`, and a node that takes them."""

    inbox: Inbox
    index: Index
    studies_of: dict[str, list[int]]
    #: what it has and never gives
    lost: set[int] = field(default_factory=set)
    #: how often it does not answer, from now on
    silent: int = 0
    #: ... and once it has named its studies
    silent_then: int = 0
    #: studies that fail when they are asked for, and how
    fails: dict[str, NodeError] = field(default_factory=dict)
    counts: bool = True
    #: ... by so many more than there are
    counted_too_many: int = 0
    #: whether it cuts off its answer for a whole day
    is_cut: bool = False
    seconds_of_question: float = 0.0
    passes: Callable[[float], float] = lambda seconds: seconds
    #: when it was asked for studies
    questions_at_s: list[float] = field(default_factory=list)
    #: False: it says that it does not give what is lost
    gives_all: bool = True
    is_served: bool = True
    #: (study, instances, whole), as it was asked
    asked: list[tuple[str, int, bool]] = field(default_factory=list)

    def studies(self, span: Span, wanted: Wanted) -> Answer:
        assert wanted.since == DAY
        self._answer()
        self.silent = self.silent_then
        self.questions_at_s.append(self.passes(self.seconds_of_question))
        found = [
            FoundStudy(
                study_instance_uid=uid,
                instances=len(images) + self.counted_too_many if self.counts else None,
                date=span.study_date,
            )
            for uid, images in self.studies_of.items()
        ]
        return Answer(
            studies={one.study_instance_uid: one for one in found},
            is_whole=not self.is_cut or bool(span.study_time),
        )

    def images(self, uid: str) -> Listing:
        self._answer()
        if uid in self.fails:
            raise self.fails[uid]
        return Listing(
            images=[
                Image(series_instance_uid=f"{uid}.3", sop_instance_uid=f"1.5.{number}")
                for number in self.studies_of[uid]
            ]
        )

    def retrieve(self, uid: str, images: Sequence[Image], *, whole: bool) -> None:
        self._answer()
        self.asked.append((uid, len(images), whole))
        for image in images:
            number = int(image.sop_instance_uid.rpartition(".")[2])
            if number not in self.lost:
                put(self.inbox, number, study=uid)
        self.register()
        if not self.gives_all and not self.lost.isdisjoint(self.studies_of[uid]):
            raise NotGivenError("HTTP 403")

    def close(self) -> None:
        pass

    def register(self) -> None:
        if self.is_served:
            while register_waiting(self.inbox, self.index, now=datetime.now(UTC)).total:
                pass

    def _answer(self) -> None:
        self.silent -= 1
        if self.silent >= 0:
            raise DestinationDownError("it does not answer")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[SmallArchive]:
    index = Index(tmp_path / "index.db")
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    yield SmallArchive(inbox, index, {"1.2": [1, 2, 3], "1.20": [4]})
    index.close()


class Run:
    """Runs of one harvest, on one journal."""

    def __init__(self, archive: SmallArchive) -> None:
        self.archive, self.slept_s = archive, 0.0
        self.began = datetime(2026, 3, 4, tzinfo=UTC)
        self.told: list[Told] = []
        archive.passes = self._pass

    def __call__(self, **settings: object) -> Reconciled:
        journal = Journal(self.archive.inbox.folder.parent / "pull.db")
        clock = Clock(
            now=lambda: self.began + timedelta(seconds=self.slept_s),
            monotonic_s=lambda: self.slept_s,
            sleep=self._sleep,
        )
        desk = Desk(
            archive=self.archive,
            name="pacs",
            longest_answer=100,
            index=self.archive.index,
            inbox=self.archive.inbox,
            journal=journal,
            pace=Pace(PaceSettings.model_validate(settings), clock),
            is_served=lambda: self.archive.is_served,
            tell=self.told.append,
        )
        self.archive.asked.clear()
        try:
            return Pull(desk, Wanted(since=DAY, until=DAY)).run()
        finally:
            journal.close()

    def _pass(self, seconds: float) -> float:
        """Let time pass; return when that began."""
        began_s, self.slept_s = self.slept_s, self.slept_s + seconds
        return began_s

    def _sleep(self, seconds: float) -> None:
        self.slept_s += seconds


@pytest.fixture
def run(archive: SmallArchive) -> Run:
    return Run(archive)


def test_all_that_an_archive_has_comes_and_is_held_against_it(
    archive: SmallArchive, run: Run
) -> None:
    found = run()
    assert (found.found, found.whole, found.instances, found.asked_for) == (2, 2, 4, 4)
    assert found.is_good
    assert archive.asked == [("1.2", 3, True), ("1.20", 1, True)]
    assert run.told[-1] == Told(step="studies", done=2, total=2)


def test_what_was_whole_is_not_asked_for_again(archive: SmallArchive, run: Run) -> None:
    run()
    found = run()
    assert (found.found, found.whole_before, found.whole, found.asked_for) == (2, 2, 2, 0)
    assert archive.asked == []


def test_what_was_whole_and_is_registered_no_more_comes_again(
    archive: SmallArchive, run: Run, tmp_path: Path
) -> None:
    run()
    archive.index = Index(tmp_path / "rebuilt.db")
    put(archive.inbox, 4, study="1.20")  # all that is left
    archive.register()
    found = run()
    archive.index.close()
    assert archive.asked == [("1.2", 3, True)]
    assert (found.whole_before, found.whole, found.is_good) == (1, 2, True)


def test_a_file_that_left_the_inbox_is_not_asked_for_again(archive: SmallArchive, run: Run) -> None:
    run()
    for instance in archive.index.instances("1.2"):
        instance.path.unlink()
    assert run().whole_before == 2
    assert archive.asked == []


def test_a_study_of_which_the_archive_counts_more_than_it_names_is_here_before(
    archive: SmallArchive, run: Run
) -> None:
    archive.counted_too_many = 1
    assert run().is_good
    assert run().whole_before == 2


def test_a_day_that_is_asked_for_by_the_hour_waits_for_the_window(
    archive: SmallArchive, run: Run
) -> None:
    opens = datetime(2026, 3, 4, 22, tzinfo=UTC)
    archive.seconds_of_question, archive.is_cut = 1200, True
    run.began = opens
    run(window="22:00-06:00")
    asked = [opens + timedelta(seconds=at_s) for at_s in archive.questions_at_s]
    # eight hours of twenty minutes each; the last of 25 questions in the next night
    assert len(asked) == 25
    assert {moment.hour for moment in asked} == {22, 23, 0, 1, 2, 3, 4, 5}


def test_a_study_that_grew_is_asked_for_what_is_new(archive: SmallArchive, run: Run) -> None:
    run()
    archive.studies_of["1.20"] += [5, 6]
    found = run()
    assert archive.asked == [("1.20", 2, False)]
    assert (found.whole_before, found.whole, found.instances) == (1, 2, 6)


def test_what_the_node_has_already_is_not_asked_for(archive: SmallArchive, run: Run) -> None:
    for number in (1, 4):
        put(archive.inbox, number, study="1.2" if number == 1 else "1.20")
    archive.register()
    assert run().is_good
    assert archive.asked == [("1.2", 2, False)]


def test_what_does_not_come_is_asked_for_twice_and_named(archive: SmallArchive, run: Run) -> None:
    archive.lost = {2}
    found = run()
    assert archive.asked == [("1.2", 3, True), ("1.20", 1, True), ("1.2", 1, False)]
    [lack] = found.lacks
    assert (lack.study_instance_uid, lack.missing, lack.instances) == ("1.2", 1, 3)
    assert (found.whole, found.is_good) == (1, False)
    archive.lost = set()
    assert run().is_good
    assert archive.asked == [("1.2", 1, False)]


def test_where_the_archive_names_no_instances_its_count_decides(
    archive: SmallArchive, run: Run
) -> None:
    archive.studies_of = {"1.2": []}
    found = run()
    [lack] = found.lacks
    assert (lack.missing, archive.asked) == (1, [("1.2", 0, True)] * 2)
    put(archive.inbox, 1)
    archive.register()
    assert run().is_good


def test_an_archive_that_does_not_count_is_asked_once_for_each_study(
    archive: SmallArchive, run: Run
) -> None:
    archive.counts = False
    assert run().is_good
    assert run().whole_before == 2
    assert archive.asked == []


def test_an_archive_that_never_answered_is_said_at_once(archive: SmallArchive, run: Run) -> None:
    archive.silent = 1
    with pytest.raises(DestinationDownError):
        run()
    assert run.slept_s == 0


def test_an_archive_that_fails_in_between_is_left_alone_and_asked_again(
    archive: SmallArchive, run: Run
) -> None:
    archive.silent_then = 1
    found = run()
    assert (found.is_good, found.whole) == (True, 2)
    assert archive.asked == [("1.20", 1, True), ("1.2", 3, True)]
    assert 20 < run.slept_s < 40


def test_an_archive_that_stays_down_ends_the_run(archive: SmallArchive, run: Run) -> None:
    archive.studies_of = {f"1.2.{number}": [number] for number in range(20)}
    archive.silent_then = 1000
    with pytest.raises(DestinationDownError):
        run()
    assert archive.silent == 1000 - MOST_FAILURES - 1


EIGHT = [f"1.9.{number}" for number in range(8)]


@pytest.fixture
def twenty_behind(archive: SmallArchive) -> SmallArchive:
    """Twenty good studies behind eight that fail in a row."""
    archive.studies_of = {uid: [100 + number] for number, uid in enumerate(EIGHT)}
    archive.studies_of |= {f"1.8.{number}": [number] for number in range(1, 21)}
    return archive


def test_studies_that_are_not_given_cost_themselves_only(
    twenty_behind: SmallArchive, run: Run
) -> None:
    twenty_behind.fails = dict.fromkeys(EIGHT, NotGivenError("HTTP 403"))
    found = run(studies_per_minute=60)
    assert (found.whole, {lack.study_instance_uid for lack in found.lacks}) == (20, set(EIGHT))
    assert {(lack.missing, lack.reason) for lack in found.lacks} == {(1, "HTTP 403")}
    assert run.slept_s == pytest.approx(8 + 20 + 8 - 1), "no pause but the rate's"


def test_studies_that_failed_come_last_and_keep_no_other_from_coming(
    twenty_behind: SmallArchive, run: Run
) -> None:
    twenty_behind.fails = dict.fromkeys(EIGHT, DestinationDownError("HTTP 500"))
    with pytest.raises(DestinationDownError):
        run()
    found = run()
    assert (found.whole, {lack.study_instance_uid for lack in found.lacks}) == (20, set(EIGHT))
    assert any("not asked for" in lack.reason for lack in found.lacks)
    twenty_behind.fails = {}
    assert run().is_good


def test_of_a_study_that_is_given_in_part_the_rest_is_named_with_the_reason(
    archive: SmallArchive, run: Run
) -> None:
    archive.lost, archive.gives_all = {2}, False
    found = run()
    [lack] = found.lacks
    assert (lack.study_instance_uid, lack.missing, lack.reason) == ("1.2", 1, "HTTP 403")
    assert found.whole == 1


def test_a_node_that_ended_is_said_with_the_cure(archive: SmallArchive, run: Run) -> None:
    archive.is_served = False
    with pytest.raises(TemporaryError, match="dicom-node serve"):
        run()
    archive.is_served = True
    archive.register()
    assert run().is_good
    assert archive.asked == [], "what came before is not asked for again"


def test_a_node_without_room_ends_the_run(archive: SmallArchive, run: Run) -> None:
    archive.inbox = Inbox(archive.inbox.folder, min_free_bytes=1 << 60)
    with pytest.raises(TemporaryError, match="min_free_gib"):
        run()
    assert archive.asked == []


def test_the_rate_is_kept(run: Run) -> None:
    run(studies_per_minute=2)
    assert run.slept_s == pytest.approx(30)


def test_what_an_earlier_run_left_in_the_inbox_is_not_asked_for(
    archive: SmallArchive, run: Run
) -> None:
    for number in (1, 2, 3):
        put(archive.inbox, number)
    registering = Timer(0.3, archive.register)
    registering.start()
    assert run().is_good
    registering.join()
    assert archive.asked == [("1.20", 1, True)]
