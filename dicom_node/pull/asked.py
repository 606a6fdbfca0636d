"""What is asked of an archive, and what it answers; nothing here is written to a log."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Protocol, TypeAlias

from dicom_node.errors import PermanentError
from dicom_node.records import checked_uid

#: Keys of a study that are asked for (PS3.4 Table C.6-5); of them only UID and count are kept.
STUDY_KEYS: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
#: VR LO: a longer pattern is matched on our side alone
_LONGEST_PATTERN: Final = 64


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """A study that an archive has."""

    study_instance_uid: str
    #: Number of Study Related Instances (0020,1208); None where the archive does not count
    instances: int | None = None
    #: as stored, "" where the archive does not tell
    date: str = ""
    time: str = ""
    description: str = ""
    #: empty where the archive does not tell
    modalities: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Image:
    """One instance that an archive has."""

    series_instance_uid: str
    sop_instance_uid: str
    #: "" where the archive does not tell
    sop_class_uid: str = ""
    modality: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The studies of one question."""

    studies: Mapping[str, FoundStudy] = field(default_factory=dict)
    #: False: the archive said that there are more
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The instances of one study."""

    images: Sequence[Image]
    #: False: the archive said that there are more
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which studies of an archive are pulled."""

    since: date
    until: date
    modality: str | None = None
    #: with ``*`` and ``?``, whatever the case
    description: str | None = None

    @property
    def sent_description(self) -> str:
        """What is asked for; "" where only our side matches."""
        pattern = self.description or ""
        return pattern if len(pattern) <= _LONGEST_PATTERN else ""

    def takes(self, study: FoundStudy) -> bool:
        """Whether a study is wanted, as far as the answer tells: archives ignore keys."""
        if self.modality and study.modalities and self.modality not in study.modalities:
            return False
        return self.description is None or _matches(self.description, study.description)

    def takes_listed(self, study: FoundStudy, images: Iterable[Image]) -> bool:
        """Whether a study is wanted of which the archive did not tell the modalities."""
        found = {image.modality for image in images} - {""}
        return not self.modality or bool(study.modalities) or not found or self.modality in found


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """One instance that came, its data set as it was sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    fragments: Iterable[bytes | memoryview]


#: Keeps an instance durably; returns the DIMSE status of a C-STORE, 0 when it is kept.
Keep: TypeAlias = Callable[[Incoming], int]


class Span(Protocol):
    """A piece of time, as DICOM writes it; a `Slice` is such."""

    @property
    def study_date(self) -> str:
        """A day."""

    @property
    def study_time(self) -> str:
        """A range of times, "" for the whole day."""


class Archive(Protocol):
    """An archive; each call raises `DestinationDownError` when it does not answer.

    Calls about one study raise `NotGivenError` where the archive says that this one is not given.
    """

    def studies(self, span: Span, wanted: Wanted) -> Answer:
        """Return the studies of a piece of time, those of the keys that it knows."""

    def images(self, study_instance_uid: str) -> Listing:
        """Return the instances of a study."""

    def retrieve(self, study_instance_uid: str, images: Sequence[Image], *, whole: bool) -> None:
        """Let instances of a study come; `whole` says that they are all that it has."""

    def close(self) -> None:
        """End what is open."""


def is_uid(value: str) -> bool:
    """Whether an archive's answer can stand in paths, rows and logs."""
    try:
        return bool(checked_uid(value, "UID"))
    except PermanentError:
        return False


def _matches(pattern: str, value: str) -> bool:
    """Wild card matching (PS3.4 C.2.2.2.4)."""
    parts = (re.escape(part).replace(r"\?", ".") for part in pattern.strip().split("*"))
    return re.fullmatch(".*".join(parts), value.strip(), re.IGNORECASE | re.DOTALL) is not None
