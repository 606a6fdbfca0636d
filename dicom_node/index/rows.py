"""What goes into the index and what it tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from dicom_node.records import Instance


class Outcome(StrEnum):
    """What registering an instance came to."""

    #: a row stands for this file
    NEW = "new"
    #: another file with the same data set is known
    DUPLICATE = "duplicate"
    #: another file with the same SOP Instance UID and other bytes is known
    CONFLICT = "conflict"


class StudyState(StrEnum):
    """Whether more instances are expected."""

    OPEN = "open"
    COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An instance to register, with the identity that only the index may hold."""

    instance: Instance
    patient_id: str


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """What the index knows of a study."""

    study_instance_uid: str
    state: StudyState
    #: how often it was completed; results carry it
    revision: int
    #: the revision that was worked on to its end, 0 before
    finished: int
    instances: int
    first_received_at: datetime
    last_received_at: datetime
    completed_at: datetime | None
    #: why it was completed last, "" before
    reason: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CompletionRow:
    """That a study was complete, once, and why."""

    revision: int
    completed_at: datetime
    reason: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Word:
    """What peers said of a study by one service, held against what is registered."""

    #: who spoke, sorted
    ae_titles: tuple[str, ...]
    #: instances that they listed
    listed: int
    #: of those, how many are not registered
    missing: int
    #: new images of the study that nobody listed
    unlisted: int
    #: procedure steps of the study that have not ended
    running: int

    @property
    def is_complete(self) -> bool:
        """Whether everything that was listed is here, and everything here was listed."""
        return bool(self.listed) and not (self.missing or self.unlisted or self.running)


class CommitmentState(StrEnum):
    """Where the report on a storage commitment stands."""

    WAITING = "waiting"
    REPORTED = "reported"
    #: nobody took the report for a day
    GIVEN_UP = "given up"


@dataclass(frozen=True, kw_only=True)
class CommitmentRow:
    """A storage commitment that was asked for (PS3.4 J.3)."""

    #: the node's own name of the request
    file_id: str
    #: counts the notices in the order in which the index took them
    serial: int
    transaction_uid: str
    #: who asked, and from where
    ae_title: str
    host: str
    state: CommitmentState
    #: how often a report was begun
    attempts: int
    instances: int
    received_at: datetime
    #: of the last attempt, "" where there is nothing to say
    reason: str


@dataclass(frozen=True, kw_only=True)
class CountRow:
    """How many instances a PACS says that a study has."""

    #: who counted
    ae_title: str
    #: the results that this node sent there are not counted
    instances: int
    #: when the last instance had come that was here when it was asked
    last_received_at: datetime
