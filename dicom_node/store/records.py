"""The frozen records that go into the store and come out of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Box, Geometry, Task
from dicom_node.store import files

#: What text the catalogue may hold. A pseudonym is hexadecimal, and a probe token needs a letter
#: and a digit: names, dates and UIDs pass neither.
PSEUDONYM: Final = re.compile(r"[0-9a-f]{16,64}")
PROBE: Final = re.compile(r"(?=.*[A-Z])(?=.*[0-9])[A-Z0-9][A-Z0-9 ./+-]{0,23}")
RULE: Final = re.compile(r"[a-z0-9][a-z0-9 -]{0,63}")
BEST_QUALITY: Final = 4
#: Rows, columns, left, top, right, bottom.
Place = tuple[int, int, int, int, int, int]


class Source(StrEnum):
    """Where in a header words stand that teach something of the image."""

    STUDY_DESCRIPTION = "StudyDescription"
    PERFORMED_PROCEDURE_STEP_DESCRIPTION = "PerformedProcedureStepDescription"
    PROCESSING_FUNCTION = "ProcessingFunction"
    #: its third value
    IMAGE_TYPE = "ImageType"
    PROCEDURE_CODE_SEQUENCE = "ProcedureCodeSequence"
    ANATOMIC_REGION_SEQUENCE = "AnatomicRegionSequence"
    VIEW_CODE_SEQUENCE = "ViewCodeSequence"
    #: with the words beside it that name the probe
    TRANSDUCER_DATA = "TransducerData"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one source says of an instance.

    Raises
    ------
    StoreError
        When a field could identify somebody.
    """

    source: Source
    #: pseudonym of the words, so that a new table can be applied later
    term: str
    #: None when no table maps the words
    groups: frozenset[str] | None
    #: which table spoke
    rule: str = "none"

    def __post_init__(self) -> None:
        _need(PSEUDONYM.fullmatch(self.term), "term is no pseudonym")
        _need(RULE.fullmatch(self.rule), "rule is no token")
        _need((self.groups or set()) <= set(GROUPS), f"groups are not a part of {GROUPS}")


@dataclass(frozen=True, kw_only=True)
class NewFrame:
    """One frame on its way into the store.

    Raises
    ------
    StoreError
        When a field could identify somebody or does not fit the others.
    """

    #: uint8, (H, W): the frame cut to `crop`, native resolution
    pixels: NDArray[np.uint8]
    #: pseudonyms, 16 to 64 hexadecimal digits
    patient: str
    study: str
    series: str
    instance: str
    #: 1-based
    frame_number: int
    #: size of the source image in pixels
    rows: int
    columns: int
    #: which part of the source image `pixels` is
    crop: Box
    #: model token of the probe
    probe: str | None = None
    geometry: Geometry = Geometry.UNKNOWN
    geometry_rule: str = "none"
    groups: frozenset[str] = frozenset()
    #: pseudonym of the normalised study description, so that a new map can be applied later
    description: str | None = None
    #: row and column spacing in mm
    spacing_mm: tuple[float, float] | None = None
    #: False only when the scanner said that no text is burned in
    burned_in_annotation: bool = True
    #: all that the header's sources say
    evidence: tuple[Evidence, ...] = ()
    #: of the whole clip that the frame is from
    number_of_frames: int | None = None
    #: from one frame of the clip to the next; None where the header does not say
    frame_time_s: float | None = None

    @cached_property
    def frame_id(self) -> str:
        """Digest of the pixels and their shape."""
        return files.digest(self.pixels)

    @property
    def place(self) -> Place:
        """Size of the image, and which part of it the frame is."""
        crop = self.crop
        return self.rows, self.columns, crop.left, crop.top, crop.right, crop.bottom

    def __post_init__(self) -> None:
        for name in ("patient", "study", "series", "instance"):
            _need(PSEUDONYM.fullmatch(getattr(self, name)), f"{name} is no pseudonym")
        for name, form in (("description", PSEUDONYM), ("probe", PROBE), ("geometry_rule", RULE)):
            value = getattr(self, name)
            _need(value is None or form.fullmatch(value), f"{name} is no token")
        _need(self.groups <= set(GROUPS), f"groups are not a part of {', '.join(GROUPS)}")
        _need(self.frame_number >= 1, f"frame number {self.frame_number} is below 1")
        _need(self.pixels.dtype == np.uint8, f"pixels are {self.pixels.dtype}, not uint8")
        size = (self.crop.height, self.crop.width)
        _need(self.pixels.shape == size, f"pixels are {self.pixels.shape}, the crop is {size}")
        _need(
            0 <= self.crop.left < self.crop.right <= self.columns
            and 0 <= self.crop.top < self.crop.bottom <= self.rows,
            f"{self.crop} leaves the image of {self.rows} rows and {self.columns} columns",
        )


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """Which frame of the store a clip shows at a moment."""

    #: 1-based
    frame_number: int
    #: from the clip's first frame; None where the header did not say
    time_s: float | None
    #: for `WeakLabelStore.pixels`; that of another moment where hardly anything had moved since
    frame_id: str


@dataclass(frozen=True, kw_only=True)
class StoredFrame:
    """One frame of the store; its pixels come from `WeakLabelStore.pixels`."""

    #: SHA-256 of the pixels and their shape, hexadecimal
    frame_id: str
    #: pseudonyms
    patient: str
    study: str
    series: str
    instance: str
    #: 1-based
    frame_number: int
    #: from the first frame of the clip, which is the instance; None where the header did not say
    time_s: float | None
    #: of the whole clip; None where an older version of the node stored the frame
    number_of_frames: int | None
    probe: str | None
    geometry: Geometry
    #: which rule spoke of probe and geometry; ``none`` where no one did
    geometry_rule: str
    groups: frozenset[str]
    #: row and column spacing in mm
    spacing_mm: tuple[float, float] | None
    height: int
    width: int
    #: label of a reader, 0 (not usable) to 4 (best view)
    quality: int | None
    has_mask: bool
    #: what the mask's values show, a name of `label_sets`; None without a mask
    label_set: str | None
    #: what a reader says that the frame is: one of the classes of a class set
    class_set: str | None
    class_name: str | None
    #: train, validation or test
    split: str
    burned_in_annotation: bool


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a store held at one moment."""

    #: as `WeakLabelStore.version`
    version: str
    #: as `WeakLabelStore.frames`
    frames: tuple[StoredFrame, ...]


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """How many frames have these weak labels."""

    geometry: Geometry
    split: str
    groups: frozenset[str]
    frames: int


@dataclass(frozen=True, kw_only=True)
class ImageLabels:
    """How many images of a study have these weak labels."""

    probe: str | None
    geometry: Geometry
    groups: frozenset[str]
    images: int


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """How much of what is in the store; all counts are frames unless named."""

    frames: int
    instances: int
    patients: int
    by_geometry: Mapping[Geometry, int]
    by_group: Mapping[str, int]
    by_split: Mapping[str, int]
    labelled: Mapping[Task, int]
    #: frames with a mask of it, of the sets that occur
    by_label_set: Mapping[str, int]
    #: ``set/class``, of those that occur
    by_class: Mapping[str, int]
    #: frames in which text may be burned in: their scanner did not deny it
    burned_in_annotation: int
    #: of frames and masks
    size_bytes: int


def _need(holds: object, fault: str) -> None:
    if not holds:
        raise StoreError(f"the frame does not go into the store: {fault}")
