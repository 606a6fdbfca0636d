"""What became of an image in the harvest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Skip(StrEnum):
    """Why something was not stored; counts frames, or objects where frames are not known."""

    NOT_ULTRASOUND = "not ultrasound"
    UNREADABLE = "unreadable"
    NOT_AN_IMAGE = "not an image"
    #: Quality Control Subject (0010,0200) says that it shows no patient
    PHANTOM = "phantom"
    NO_REGION = "no region"
    UNDECODABLE = "undecodable"
    BLACK = "black"
    #: the same pixels are there, from another frame or instance
    DUPLICATE = "duplicate"
    #: hardly anything moved since the frame of the clip that was kept last
    NEAR_DUPLICATE = "near duplicate"
    #: this very frame is there from an earlier run
    ALREADY_STORED = "already stored"
    #: the store holds other pixels under this SOP Instance UID
    REFUSED = "refused"
    #: erased, and not to be taken in again
    PATIENT_REFUSED = "patient refused"


@dataclass(frozen=True, kw_only=True)
class HarvestCount:
    """What became of one instance."""

    frames_stored: int = 0
    skipped: Mapping[Skip, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """Return the counts under plain names."""
        return {"frames stored": self.frames_stored} | {
            skip.value: count for skip, count in self.skipped.items()
        }
