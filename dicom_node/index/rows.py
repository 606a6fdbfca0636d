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
