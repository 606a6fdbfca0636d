"""What a pull came to, held against what the archive has."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Told:
    """How far a pull is, for whoever waits."""

    step: str
    done: int
    total: int
    #: what is waited for, "" while it goes on
    waits_for: str = ""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A study of which not all is here."""

    study_instance_uid: str
    #: how many the archive has; 0 where it did not tell
    instances: int
    missing: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What the archive has, and what of it is here, registered."""

    #: studies that were asked for and that the archive has
    found: int
    #: ... of which all is here, and was before
    whole_before: int
    #: ... of which all is here now
    whole: int
    #: instances of the whole studies
    instances: int
    #: instances that were asked for in this run
    asked_for: int
    #: studies that the archive answered and nobody asked for: it ignores keys
    not_wanted: int
    lacks: tuple[Lack, ...]
    #: pieces of time of which the archive may have more than it answered
    cut: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether all that the archive has is here."""
        return not self.lacks and not self.cut
