"""The frozen records that cross from one stage to the next.

Frame numbers are 1-based everywhere, as in Referenced Frame Number (0008,1160).
Pixel boxes are half-open, in source pixels, origin at the top left.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import PermanentError

if TYPE_CHECKING:  # most processes hold no pixels and need not wait for numpy
    import numpy as np
    from numpy.typing import NDArray


class Geometry(StrEnum):
    """The shape of the probe's field of view; ``UNKNOWN`` is a value, never a guess."""

    LINEAR = "linear"
    CURVILINEAR = "curvilinear"
    PHASED = "phased"
    ENDOCAVITY = "endocavity"
    VOLUME = "volume"
    UNKNOWN = "unknown"


#: The eight study groups of the weak-label papers, in the order of their bits.
GROUPS = ("abdomen", "chest", "drainage", "kidney", "liver", "nodule", "soft tissue", "thyroid")


class Task(StrEnum):
    """What a model answers."""

    SEGMENTATION = "segmentation"
    QUALITY = "quality"
    CLASSIFICATION = "classification"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One received SOP Instance that the index knows."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    #: the node's own name of the file in the inbox
    file_id: str
    path: Path
    #: of the data set as sent, without preamble and File Meta Information
    sha256: str
    size_bytes: int
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Box:
    """A half-open rectangle in source pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns inside the box."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows inside the box."""
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box into an array of shape (R, C, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the header says of an image's pixels, read without touching them."""

    rows: int
    columns: int
    number_of_frames: int
    transfer_syntax_uid: str
    #: the B-mode part of the picture (PS3.3 C.8.5.5), None when the header names none to rely on
    region: Box | None
    #: row and column spacing in mm of the whole picture, None unless all B-mode regions share it
    spacing_mm: tuple[float, float] | None
    #: that of `region` alone, None when the scanner did not calibrate it
    region_spacing_mm: tuple[float, float] | None = None
    #: B-mode regions beside `region`, which is the largest
    further_regions: int = 0
    #: parts of `region` where the header places a spectrum, an M-mode or a waveform
    overlaid: tuple[Box, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WeakLabels:
    """What the scanner's own words teach about one instance."""

    #: model token of the probe, as "C5-1"; None when no rule spoke
    probe: str | None
    geometry: Geometry
    #: which rule decided the geometry, for the researcher who doubts it
    geometry_rule: str
    #: subset of GROUPS; empty when the study description is not mapped
    groups: frozenset[str]
    #: whether a study description was there and the map knew it
    description_mapped: bool


@dataclass(frozen=True, kw_only=True)
class CodedConcept:
    """A code of PS3.16 or SNOMED CT: (value, scheme, meaning)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One label of a segmentation model."""

    #: value in the label map; 0 is background
    value: int
    category: CodedConcept
    type: CodedConcept


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Which model spoke."""

    name: str
    version: str
    manufacturer: str
    #: sha256 of the bundle file, hexadecimal
    digest: str


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Label maps of one instance in source geometry."""

    algorithm: Algorithm
    segments: tuple[Segment, ...]
    #: frame numbers that were analysed, ascending, length N
    frames: tuple[int, ...]
    #: uint8, (N, R, C): Segment.value, 0 = background
    label_map: "NDArray[np.uint8]"

    @property
    def is_empty(self) -> bool:
        """Whether the model found nothing in any frame."""
        return not self.label_map.any()


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """The view quality of one frame."""

    frame: int
    #: 0 (not usable) to 4 (best view); None where the model gave no number
    score: int | None
    #: probability of that score, 0 to 1; None without a score
    probability: float | None


@dataclass(frozen=True, kw_only=True)
class QualityScores:
    """The view quality of one instance, frame by frame."""

    algorithm: Algorithm
    scores: tuple[FrameScore, ...]
    #: what the scored view is a view of
    finding_sites: tuple[CodedConcept, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FailedAnalysis:
    """A model that should have spoken and could not."""

    algorithm: Algorithm
    task: Task
    #: for the reader of the report: what failed, without a patient's data
    reason: str


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything the models said of one instance."""

    instance: Instance
    facts: ImageFacts
    segmentations: tuple[Segmentation, ...] = ()
    qualities: tuple[QualityScores, ...] = ()
    failures: tuple[FailedAnalysis, ...] = ()


class ResultKind(StrEnum):
    """The kinds of objects that the node sends; a destination names those it wants."""

    SEG = "seg"
    SR = "sr"
    #: presentation state: outlines and words that a viewer draws over the image
    PR = "pr"
    #: Secondary Capture: the same, burnt into a copy of the picture
    SC = "sc"


@dataclass(frozen=True, kw_only=True)
class Merging:
    """With which others the SEG of a still goes out as one object."""

    #: of that object
    series_instance_uid: str
    #: of the model that spoke; what another one said stays apart
    digest: str
    #: so many at most
    most: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """One DICOM object that passed the gate and waits on disk."""

    kind: ResultKind
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    #: the image it speaks of; "" of a SEG of several stills
    source_sop_instance_uid: str
    path: Path
    #: the same for every version of what one model, or the report, says of the image
    series_instance_uid: str = ""
    #: counts what was said of the image, from 1; Instance Number (0020,0013)
    version: int = 1
    #: SOP Instance UID of the object that it replaces
    supersedes: str | None = None
    #: which of the forms of its kind it has; "" when read back from the outbox
    form: str = ""
    #: of the SEG of a still, which is not sent by itself
    merging: Merging | None = None
    #: of a SEG of stills, the images that it speaks of
    images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Edition:
    """Which one of the results of an image is written, and what it replaces."""

    #: as in `Result`
    version: int = 1
    #: how often the study was complete by then
    study_revision: int = 1
    #: what was said of the image last
    predecessors: tuple[Result, ...] = ()
    #: of a model that is tried beside those that serve: sent to nobody
    is_shadow: bool = False

    @property
    def word(self) -> str:
        """What tells the UIDs of this edition from those of others."""
        return f"{self.version} shadow" if self.is_shadow else str(self.version)


#: Of an image of which nothing was said before.
FIRST_EDITION = Edition()


class NoticeKind(StrEnum):
    """By which service a peer spoke of instances."""

    #: Storage Commitment Push Model, N-ACTION (PS3.4 J.3.2)
    COMMITMENT = "storage commitment"
    #: Modality Performed Procedure Step, N-CREATE and N-SET (PS3.4 F.7.2)
    PROCEDURE_STEP = "performed procedure step"
    #: Instance Availability Notification, N-CREATE (PS3.4 R.3.2)
    AVAILABILITY = "instance availability"
    #: Storage Commitment Push Model, N-EVENT-REPORT on what this node asked for (PS3.4 J.3.3)
    REPORT = "storage commitment report"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An instance that a peer named."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing that a peer said of instances."""

    #: the node's own name of the notice
    file_id: str
    kind: NoticeKind
    calling_ae_title: str
    #: address that it came from; a report goes there where ``node.callers`` names no host
    host: str
    #: Transaction UID (0008,1195) of a commitment or a report, else the SOP Instance UID of what
    #: was made
    uid: str
    #: Performed Procedure Step Status (0040,0252); "" of the other kinds, and where not sent
    status: str
    #: empty where the message names none
    study_instance_uids: tuple[str, ...]
    #: in the order of the message, each instance once; of a report those that are kept
    references: tuple[Reference, ...]
    received_at: datetime
    #: of a report: what is not kept, with its Failure Reason (0008,1197)
    failures: tuple[tuple[Reference, int], ...] = ()


_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def checked_uid(value: str, keyword: str) -> str:
    """Return `value` when it can be a UID that paths and rows may rely on.

    Raises
    ------
    PermanentError
        When it is longer than 64 characters or is not numbers joined by dots (PS3.5 9.1).
        Leading zeros and unknown roots pass: PACS hold such UIDs.
    """
    if len(value) > 64 or not _UID.fullmatch(value):
        shown = value[:80].encode("unicode_escape").decode()
        raise PermanentError(
            f"{keyword} {shown!r} is not a UID: numbers joined by dots, at most 64 characters"
        )
    return value
