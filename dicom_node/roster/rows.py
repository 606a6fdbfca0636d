"""The frozen records that the roster hands out."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class NodeRow:
    """One node."""

    name: str
    ae_title: str
    version: str
    beat_at: datetime
    #: since its last sign of life, by the server's clock
    silent_s: float
    claimed_by: str | None
    #: studies that it has not finished and that nobody took over
    unfinished: int
    #: studies that others took over
    taken: int
    #: why the latest of the unfinished ones could not be taken over, "" when nobody tried
    reason: str


@dataclass(frozen=True, kw_only=True)
class OwedStudy:
    """A study that a node has not finished."""

    name: str
    study_instance_uid: str
    instances: int
    tries: int
