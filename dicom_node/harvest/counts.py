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
    #: Burned In Annotation (0028,0301) does not deny text, and says nothing of it
    BURNED_IN_NOT_SAID = "burned in annotation not said"
    #: not of frames: B-mode regions beside the largest, which alone is kept
    FURTHER_REGIONS = "further regions"
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
    #: not of `harvest.modalities`
    NOT_WANTED = "modality not wanted"
    #: Burned In Annotation is YES
    BURNED_IN = "burned in annotation"
    # of a slice of CT or MR: why its series is no volume
    LOCALISER = "localiser"
    ENHANCED = "enhanced object"
    NO_GEOMETRY = "no geometry"
    NO_RESCALE = "no rescale to hounsfield units"
    IMPOSSIBLE_RESCALE = "impossible rescale"
    TOO_FEW_SLICES = "too few slices"
    MIXED = "mixed series"
    SIZES_DIFFER = "sizes differ"
    MISSING_SLICES = "missing slices"
    UNEVEN = "uneven slice spacing"
    TILTED = "tilted too far"
    UNIFORM = "one grey all over"
    #: the same slice twice: one is used
    DUPLICATE_SLICE = "duplicate slice"
    MAY_SHOW_A_FACE = "may show a face"
    #: gone, or not to be read now: that is no word on the series
    FILES_LOST = "files lost"


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
