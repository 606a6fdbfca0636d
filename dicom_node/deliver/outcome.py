"""What an answer of a destination means for the outbox."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicom_node import log
from dicom_node.records import Result


class Verdict(StrEnum):
    """What an answer means for the outbox."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a destination said, or that it said nothing."""

    verdict: Verdict
    #: DIMSE status or Failure Reason (0008,1197), None when there was none
    status: int | None = None
    #: for ``queue list``: what happened and what to do
    reason: str = ""
    #: whether there was no connection: then nothing else can be sent there either
    is_down: bool = False
    #: whether it takes no object of this SOP class
    is_class_refused: bool = False
    #: whether it takes this object never, and may take another that says the same
    is_object_refused: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome(Answer):
    """How one object fared."""

    sop_instance_uid: str
    sop_class_uid: str


SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
#: permanent statuses from here on are about the object, and not about who sends it
UNFIT_FROM: Final = 0xA900
#: First matching row speaks (low, high, verdict, reason). PS3.4 Table B.2-1, PS3.7 Annex C.
#: The Failure Reasons of STOW-RS (PS3.18 Table I.2-2) are the same numbers.
STATUSES: Final[tuple[tuple[int, int, Verdict, str], ...]] = (
    (0x0000, 0x0000, Verdict.DELIVERED, ""),
    (0xB000, 0xBFFF, Verdict.DELIVERED, "stored with a warning"),
    (0x0111, 0x0111, Verdict.DELIVERED, "was there already"),
    (0xA700, 0xA7FF, Verdict.TEMPORARY, "out of resources; free space at the destination"),
    (0x0110, 0x0110, Verdict.TEMPORARY, "processing failure; see the destination's log"),
    (0x0213, 0x0213, Verdict.TEMPORARY, "resource limitation at the destination"),
    (
        SOP_CLASS_NOT_SUPPORTED,
        SOP_CLASS_NOT_SUPPORTED,
        Verdict.PERMANENT,
        "SOP class not supported by the destination",
    ),
    (0x0124, 0x0124, Verdict.PERMANENT, "not authorised; allow this AE title to store"),
    (0xA900, 0xA9FF, Verdict.PERMANENT, "data set does not match its SOP class"),
    (0xC000, 0xCFFF, Verdict.PERMANENT, "the destination cannot understand the object"),
)
UNKNOWN: Final = "unknown status; see the destination's log"
LOST_FILE: Final = "its file in the results folder is missing or damaged; restore it from backup"


def judge(status: int) -> Answer:
    """Return what a status means."""
    for low, high, verdict, reason in STATUSES:
        if low <= status <= high:
            return Answer(
                verdict=verdict,
                status=status,
                reason=reason,
                is_class_refused=status == SOP_CLASS_NOT_SUPPORTED,
                is_object_refused=status >= UNFIT_FROM and verdict is Verdict.PERMANENT,
            )
    return Answer(verdict=Verdict.TEMPORARY, status=status, reason=UNKNOWN)


def not_accepted(result: Result) -> Answer:
    """Return what it means that no context of an object's SOP class was accepted."""
    reason = (
        f"the destination does not accept {result.kind.upper()} objects; "
        "enable that SOP class there or leave it out of 'send:'"
    )
    return Answer(verdict=Verdict.PERMANENT, reason=reason, is_class_refused=True)


def outcome(result: Result, answer: Answer) -> Outcome:
    """Return how an object fared; the log tells of one that was not delivered."""
    if answer.verdict is not Verdict.DELIVERED:
        log.get("deliver").warning(
            "not delivered",
            sop_instance_uid=result.sop_instance_uid,
            state=answer.verdict.value,
            status=answer.status,
            reason=answer.reason,
        )
    return Outcome(
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        **vars(answer),
    )


def outcomes(results: Sequence[Result], answer: Answer) -> Iterator[Outcome]:
    """Yield the same outcome for each object."""
    return (outcome(result, answer) for result in results)
