from collections.abc import Callable
from datetime import date

import pytest

from dicom_node.errors import DestinationDownError
from dicom_node.pull.asked import Answer, FoundStudy
from dicom_node.pull.slices import Slice, days, gather

DAY = Slice(day=date(2024, 1, 2))


def studies(*times: str, day: str = "20240102") -> dict[str, FoundStudy]:
    return {
        f"1.{number}": FoundStudy(study_instance_uid=f"1.{number}", date=day, time=time)
        for number, time in enumerate(times)
    }


def archive(
    every: dict[str, FoundStudy], asked: list[str], *, limit: int, says_so: bool = False
) -> Callable[[Slice], Answer]:
    """Return an archive that matches StudyTime and answers `limit` studies at most."""

    def ask(span: Slice) -> Answer:
        asked.append(str(span))
        begin, _, end = span.study_time.partition("-")
        fitting = {u: s for u, s in every.items() if not begin or begin <= s.time <= end}
        first = dict(list(fitting.items())[:limit])
        return Answer(studies=first, is_whole=not says_so or len(fitting) <= limit)

    return ask


def test_days_are_asked_for_one_by_one() -> None:
    spans = list(days(date(2024, 2, 28), date(2024, 3, 1)))
    assert [span.study_date for span in spans] == ["20240228", "20240229", "20240301"]
    assert {span.study_time for span in spans} == {""}


def test_a_short_answer_is_one_question() -> None:
    asked: list[str] = []
    found = gather(archive(studies("120000"), asked, limit=9), DAY, longest_answer=3)
    assert (len(found.studies), found.cut, asked) == (1, [], ["2024-01-02"])


@pytest.mark.parametrize("says_so", [True, False])
def test_an_answer_that_hits_a_limit_is_asked_for_by_the_hour(says_so: bool) -> None:
    every = studies("080000", "081500", "150000.25", "155959.999999", "")
    asked: list[str] = []
    ask = archive(every, asked, limit=3, says_so=says_so)
    found = gather(ask, DAY, longest_answer=3)
    # the one without a time is in no hour: only an answer that was whole would have it
    assert found.studies.keys() == {"1.0", "1.1", "1.2", "1.3"}
    assert (len(asked), found.cut) == (25, [])


def test_an_hour_that_hits_a_limit_is_asked_for_by_the_minute() -> None:
    every = studies(*(f"08{minute:02}30" for minute in range(10)))
    found = gather(archive(every, [], limit=4), DAY, longest_answer=4)
    assert (len(found.studies), found.cut) == (10, [])


def test_a_minute_that_hits_a_limit_is_named() -> None:
    every = studies(*["081530"] * 5)
    found = gather(archive(every, [], limit=4), DAY, longest_answer=4)
    assert [str(one) for one in found.cut] == ["2024-01-02 08:15"]


def test_an_archive_that_ignores_the_time_is_asked_once_more_and_the_day_is_named() -> None:
    every, asked = studies(*["081530"] * 5), []

    def ask(span: Slice) -> Answer:
        asked.append(str(span))
        return Answer(studies=dict(list(every.items())[:4]))

    found = gather(ask, DAY, longest_answer=4)
    assert asked == ["2024-01-02", "2024-01-02 00:00"]
    assert (len(found.studies), found.cut) == (4, [DAY])


def test_an_archive_that_ignores_the_date_adds_nothing() -> None:
    every = studies("120000", day="20230101") | {
        "2.1": FoundStudy(study_instance_uid="2.1", date="20240102", time="120000")
    }
    found = gather(lambda _: Answer(studies=every), DAY, longest_answer=9)
    assert found.studies.keys() == {"2.1"}


def test_an_archive_that_breaks_off_every_answer_is_no_limit() -> None:
    asked: list[Slice] = []

    def ask(span: Slice) -> Answer:
        asked.append(span)
        return Answer(is_whole=False)

    with pytest.raises(DestinationDownError, match="breaks off every answer for 2024-01-02 00:00"):
        gather(ask, DAY, longest_answer=9)
    assert len(asked) == 62
