"""Questions for pieces of time: an archive cuts long answers short, and few say so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, TypeAlias

from dicom_node.errors import DestinationDownError
from dicom_node.pull.asked import Answer, FoundStudy

_HOURS, _MINUTES = 24, 60
#: Of a time of day (VR TM): as much as tells hour and minute.
_HOUR_MINUTE: Final = 4


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A day, an hour, or a minute."""

    day: date
    hour: int | None = None
    minute: int | None = None

    def __str__(self) -> str:
        clock = "" if self.hour is None else f" {self.hour:02}:{self.minute or 0:02}"
        return f"{self.day:%Y-%m-%d}{clock}"

    @property
    def study_date(self) -> str:
        """Study Date (0008,0020) to ask for."""
        return f"{self.day:%Y%m%d}"

    @property
    def study_time(self) -> str:
        """Range of Study Time (0008,0030) to ask for, "" for the whole day."""
        if self.hour is None:
            return ""
        first, last = (self.minute, self.minute) if self.minute is not None else (0, _MINUTES - 1)
        return f"{self.hour:02}{first:02}00-{self.hour:02}{last:02}59.999999"

    @property
    def finer(self) -> list["Slice"]:
        """The slices that it consists of; none of a minute."""
        if self.hour is None:
            return [Slice(day=self.day, hour=hour) for hour in range(_HOURS)]
        if self.minute is None:
            return [Slice(day=self.day, hour=self.hour, minute=one) for one in range(_MINUTES)]
        return []

    def is_on_day(self, study: FoundStudy) -> bool:
        """Whether a study is of this day, as far as the answer tells."""
        return study.date in ("", self.study_date)

    def is_missed_by(self, answer: Answer) -> bool:
        """Whether an answer has studies of another time of the day."""
        begin, _, end = self.study_time.partition("-")
        times = [one.time[:_HOUR_MINUTE] for one in answer.studies.values()]
        return any(
            len(time) == _HOUR_MINUTE and not begin[:_HOUR_MINUTE] <= time <= end[:_HOUR_MINUTE]
            for time in times
        )


@dataclass(kw_only=True)
class Gathered:
    """The studies of several questions."""

    studies: dict[str, FoundStudy] = field(default_factory=dict)
    #: pieces of time of which there may be more than was answered
    cut: list[Slice] = field(default_factory=list)

    def add(self, other: "Gathered") -> None:
        """Take what another has, too."""
        self.studies |= other.studies
        self.cut += other.cut


#: Asks an archive for the studies of a slice.
Ask: TypeAlias = Callable[[Slice], Answer]


def days(since: date, until: date) -> Iterator[Slice]:
    """Yield the days from `since` to `until`, both included."""
    for number in range((until - since).days + 1):
        yield Slice(day=since + timedelta(days=number))


def gather(ask: Ask, asked: Slice, *, longest_answer: int) -> Gathered:
    """Ask for a slice, and for its parts where the answer may have been cut short.

    Parameters
    ----------
    ask : callable
    asked : Slice
    longest_answer : int
        An answer of so many studies may have been cut short.

    Raises
    ------
    DestinationDownError
        When every part of a slice is cut short before its first study: that is no limit.
    """
    return _gathered(ask, asked, ask(asked), longest_answer)


def _gathered(ask: Ask, asked: Slice, answer: Answer, longest_answer: int) -> Gathered:
    on_day = {uid: one for uid, one in answer.studies.items() if asked.is_on_day(one)}
    found = Gathered(studies=on_day)
    if _is_whole(answer, longest_answer):
        return found
    if not asked.finer:
        found.cut.append(asked)
    for part in asked.finer:
        answer = ask(part)
        if not _is_whole(answer, longest_answer) and part.is_missed_by(answer):
            found.cut.append(asked)  # the archive takes no notice of the time
            break
        found.add(_gathered(ask, part, answer, longest_answer))
    if len(found.cut) >= len(asked.finer) > 0 and not found.studies:
        raise DestinationDownError(
            f"the archive breaks off every answer for {asked}; see the archive's log"
        )
    return found


def _is_whole(answer: Answer, longest_answer: int) -> bool:
    return answer.is_whole and len(answer.studies) < longest_answer
