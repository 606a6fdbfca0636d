"""Which images a model is for: a few conditions that must all hold.

Groups and geometry are the weak labels of an image; everything else is read from its header. There
is no "or" and no "not": a model for two kinds of images is two bundles, or a wider rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dicom_node.records import GROUPS, Geometry, ImageFacts

#: VRs whose values are no short words or numbers, or are a person's name; those of bytes begin
#: with O
_UNMATCHED = frozenset({"AT", "PN", "SQ", "UN"})


class Part(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _keyword(value: str) -> str:
    # manifests are written by training too, on machines that have no DICOM package
    from pydicom.datadict import dictionary_VR, tag_for_keyword  # noqa: PLC0415

    tag = tag_for_keyword(value)
    kind = "UN" if tag is None else dictionary_VR(tag)
    if kind in _UNMATCHED or kind.startswith("O"):
        raise ValueError(
            f"{value!r} is no keyword of an attribute with plain values; "
            "name one as PS3.6 does, such as ManufacturerModelName"
        )
    return value


class Frames(Part):
    """How many frames an image may have; a still has one."""

    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"no image has {self.min} frames or more and {self.max} or less")
        return self


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What rules look at of one image."""

    groups: frozenset[str]
    geometry: Geometry
    #: None where the header cannot be read: then the labels decide alone, and the report of the
    #: models that should have spoken says why they did not
    facts: ImageFacts | None = None
    #: keyword -> text, values joined by a backslash, "" where absent
    header: Mapping[str, str] | None = None


class Routing(Part):
    """Which instances the model is for; what is empty or left out does not restrict."""

    groups: tuple[Literal[GROUPS], ...] = ()  # type: ignore[valid-type]
    geometries: tuple[Geometry, ...] = ()
    #: whether the header names a B-mode region, or one with a scale in mm
    region: Literal["any", "present", "calibrated"] = "any"
    frames: Frames = Frames()
    #: attribute keyword -> patterns, with * and ? as in a shell, of which a value must match one;
    #: upper and lower case are the same, and an absent attribute counts as ""
    header: dict[
        Annotated[str, AfterValidator(_keyword)], Annotated[tuple[str, ...], Field(min_length=1)]
    ] = {}

    def fits(self, groups: frozenset[str], geometry: Geometry) -> bool:
        """Whether an instance with these weak labels is for this model."""
        return (not self.groups or bool(groups & set(self.groups))) and (
            not self.geometries or geometry in self.geometries
        )

    def takes(self, image: Candidate) -> bool:
        """Whether an image is for this model."""
        return (
            self.fits(image.groups, image.geometry)
            and (image.facts is None or self._suits(image.facts))
            and (image.header is None or self._matches(image.header))
        )

    def sentence(self) -> str:
        """Say the rule in words."""
        return (
            f"images {', '.join(conditions)}" if (conditions := [*self._words()]) else "all images"
        )

    def _suits(self, facts: ImageFacts) -> bool:
        has = {
            "any": True,
            "present": facts.region is not None,
            "calibrated": facts.region is not None and facts.spacing_mm is not None,
        }
        count, most = facts.number_of_frames, self.frames.max
        return has[self.region] and self.frames.min <= count and (most is None or count <= most)

    def _matches(self, header: Mapping[str, str]) -> bool:
        return all(
            any(
                fnmatchcase(value.strip().casefold(), pattern.casefold())
                for value in header.get(keyword, "").split("\\")
                for pattern in patterns
            )
            for keyword, patterns in self.header.items()
        )

    def _words(self) -> Iterator[str]:
        if self.groups:
            yield f"of the study groups {_either(self.groups)}"
        if self.geometries:
            yield f"from probes that are {_either(self.geometries)}"
        if self.region != "any":
            yield f"with a {'B-mode' if self.region == 'present' else 'calibrated B-mode'} region"
        if words := _frames(self.frames):
            yield words
        for keyword, patterns in self.header.items():
            yield f"whose {keyword} is {_either(pattern or 'absent' for pattern in patterns)}"


def _frames(frames: Frames) -> str:
    least, most = frames.min, frames.max
    if most == 1:
        return "that are stills"
    if most is None:
        return {1: "", 2: "that are cines"}.get(least, f"of {least} frames or more")
    return f"of {least} to {most} frames"


def _either(values: "Iterator[str] | tuple[str, ...]") -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last
