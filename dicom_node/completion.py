"""When a study is complete, and why: the peers' word before the clock's.

Without a word a study is complete when nothing came for ``study.quiet_s``. A peer's word that
everything is here shortens the wait to ``study.evidence_quiet_s``; it is not dropped, because some
modalities ask for the commitment of each image by itself. Whatever is said, an hour
(``study.longest_s``) after the first new instance the work begins; what comes later opens the study
again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from dicom_node.config import StudySettings
from dicom_node.index import CountRow, Index, StudyRow, Word
from dicom_node.notices import Notices
from dicom_node.records import Notice, NoticeKind

#: By which service, and how its word is told to the engineer.
RULES: Final[tuple[tuple[NoticeKind, str], ...]] = (
    (NoticeKind.COMMITMENT, "storage commitment by {who} listed {instances}"),
    (NoticeKind.PROCEDURE_STEP, "the performed procedure step of {who} names {instances}"),
    (NoticeKind.AVAILABILITY, "instance availability by {who} listed {instances}"),
)
#: What may be wrong with a word: its field, and how that is told.
_LACKS: Final = (
    ("running", "{} procedure step(s) not ended"),
    ("missing", "{} not here"),
    ("unlisted", "{} new image(s) not among them"),
)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """That a study is complete, and why."""

    study_instance_uid: str
    last_received_at: datetime
    #: what decided: a service (`NoticeKind`), "count", "quiet" or "longest"
    basis: str
    #: a sentence for the engineer, with numbers
    reason: str
    #: what the sentence stands on; goes into JSON
    evidence: Mapping[str, Any]


class Completions:
    """Decides which studies are complete.

    Parameters
    ----------
    index : Index
        Holds everything that a decision depends on, so that a restart changes none.
    settings : StudySettings
    """

    def __init__(self, index: Index, settings: StudySettings) -> None:
        self._index, self._settings = index, settings
        #: up to which word each study was looked at in its present lull, and when
        self._looked_at: dict[str, int] = {}
        self._looked_until = datetime.min.replace(tzinfo=UTC)

    def due(self, now: datetime) -> list[Completion]:
        """Return the open studies that are complete.

        Parameters
        ----------
        now : datetime
            All that was received before is registered.
        """
        index, settings = self._index, self._settings
        if (now - self._looked_until).total_seconds() >= self._wait_s:
            self._looked_at = {}  # a lull may have ended since, and the next one begun
        overdue = set(index.overdue(now, settings.longest_s))
        quiet = set(index.due(now, settings.quiet_s))
        lulled = index.due(now, self._wait_s)
        serial = index.evidence.serial()
        unseen = {uid for uid in lulled if self._looked_at.get(uid) != serial}
        spoken = index.evidence.spoken_of(sorted(unseen | quiet | overdue))
        counts = index.evidence.counted(lulled) if settings.count_at else {}
        judged = [
            self._judge(
                _Seen(
                    study_instance_uid=uid,
                    is_quiet=uid in quiet,
                    is_overdue=uid in overdue,
                    words=self._words(uid) if uid in spoken else {},
                    count=counts.get(uid),
                )
            )
            for uid in sorted(spoken | counts.keys() | quiet | overdue)
        ]
        self._looked_at, self._looked_until = dict.fromkeys(lulled, serial), now
        return [completion for completion in judged if completion is not None]

    def to_count(self, now: datetime) -> list[tuple[str, datetime]]:
        """Return the lulled studies whose instances the PACS did not count in this lull.

        Each with the time when its last instance came, which names the lull.
        """
        if self._settings.count_at is None:
            return []
        return self._index.evidence.uncounted(self._index.due(now, self._wait_s))

    @property
    def _wait_s(self) -> float:
        return min(self._settings.evidence_quiet_s, self._settings.quiet_s)

    def _words(self, study_uid: str) -> dict[NoticeKind, Word]:
        words = {kind: self._index.evidence.word(kind, study_uid) for kind, _ in RULES}
        return {kind: word for kind, word in words.items() if word.ae_titles}

    def _judge(self, seen: "_Seen") -> Completion | None:
        row = self._index.study(seen.study_instance_uid)
        if row is None:
            return None
        is_known = any(word.is_complete for word in seen.words.values())
        is_known = is_known or _is_all(seen.count, row)
        if not (is_known or seen.is_quiet or seen.is_overdue):
            return None
        waited_s = self._settings.quiet_s if seen.is_quiet else self._wait_s
        last = f"nothing came for {waited_s:g} s"
        if seen.is_overdue and not seen.is_quiet:
            last = f"the first new instance came at least {self._settings.longest_s:g} s ago"
        evidence: dict[str, Any] = {"quiet_s": waited_s, "instances": row.instances}
        evidence |= {kind.value: asdict(word) for kind, word in seen.words.items()}
        if seen.count is not None:
            evidence["count"] = {
                "ae_title": seen.count.ae_title,
                "instances": seen.count.instances,
            }
        sentences = [*_sentences(seen.words), *_counted(seen.count, row), last]
        return Completion(
            study_instance_uid=row.study_instance_uid,
            last_received_at=row.last_received_at,
            basis=_basis(seen.words, is_known, seen.is_quiet),
            reason="; ".join(sentences),
            evidence=evidence,
        )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What is known of a study when it is judged."""

    study_instance_uid: str
    is_quiet: bool
    is_overdue: bool
    words: Mapping[NoticeKind, Word]
    count: CountRow | None


def take_notices(
    notices: Notices, index: Index, *, on_report: Callable[[Notice], bool], limit: int = 256
) -> int:
    """Let the index remember the notices that wait longest; returns how many.

    Safe to kill at any moment: a notice is removed once it stands in the index, and one that stands
    there already is known again by its file id. What the node asked others for is no evidence:
    `on_report` takes the reports, and returns whether one was news; taken twice it changes nothing.
    """
    taken = 0
    for notice in notices.waiting(limit):
        is_report = notice.kind is NoticeKind.REPORT
        is_new = on_report(notice) if is_report else index.evidence.take(notice)
        notices.remove(notice.file_id)
        taken += is_new
    return taken


def _is_all(count: CountRow | None, row: StudyRow) -> bool:
    return count is not None and count.instances == row.instances


def _basis(words: Mapping[NoticeKind, Word], is_known: bool, is_quiet: bool) -> str:
    if not is_known:
        return "quiet" if is_quiet else "longest"
    return next((kind.value for kind, word in words.items() if word.is_complete), "count")


def _sentences(words: Mapping[NoticeKind, Word]) -> Iterable[str]:
    for kind, sentence in RULES:
        word = words.get(kind)
        if word is not None:
            told = sentence.format(who=", ".join(word.ae_titles), instances=_many(word.listed))
            yield f"{told}, {_state(word)}"


def _state(word: Word) -> str:
    if word.is_complete:
        return "all are here"
    lacks = [told.format(value) for name, told in _LACKS if (value := getattr(word, name))]
    return ", ".join(lacks) or "which is no list"


def _counted(count: CountRow | None, row: StudyRow) -> Iterable[str]:
    if count is not None:
        state = "all are here" if _is_all(count, row) else f"{row.instances} are here"
        yield f"{count.ae_title} counts {_many(count.instances)}, {state}"


def _many(instances: int) -> str:
    return f"{instances} instance" if instances == 1 else f"{instances} instances"
