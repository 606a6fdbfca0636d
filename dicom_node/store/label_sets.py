"""What the labels of readers mean: ``data/label_sets.yaml``."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, TypeVar

import yaml

from dicom_node.errors import StoreError
from dicom_node.records import CodedConcept

#: Of a mask that comes without the name of its set.
DEFAULT_LABEL_SET: Final = "liver-kidney"


@dataclass(frozen=True, kw_only=True)
class CodedLabel:
    """What one value of a mask shows."""

    name: str
    #: Segmented Property Category and Type (PS3.3 C.8.20.4)
    category: CodedConcept
    type: CodedConcept


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """What the values of a mask show; 0 is background."""

    name: str
    #: of the values 1, 2 and so on
    labels: tuple[CodedLabel, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values 1, 2 and so on."""
        return tuple(label.name for label in self.labels)


@dataclass(frozen=True, kw_only=True)
class CodedClass:
    """One answer to what a frame is."""

    name: str
    code: CodedConcept


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """The answers to what a frame is, of which one is true."""

    name: str
    #: of the classes 0, 1 and so on
    classes: tuple[CodedClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes 0, 1 and so on."""
        return tuple(one.name for one in self.classes)


@functools.cache
def label_sets() -> Mapping[str, LabelSet]:
    """Return all label sets by name."""
    return {
        name: LabelSet(name=name, labels=tuple(map(_label, labels)))
        for name, labels in _file()["label_sets"].items()
    }


@functools.cache
def class_sets() -> Mapping[str, ClassSet]:
    """Return all class sets by name."""
    return {
        name: ClassSet(name=name, classes=tuple(map(_class, classes)))
        for name, classes in _file()["class_sets"].items()
    }


def label_set(name: str) -> LabelSet:
    """Return a label set.

    Raises
    ------
    StoreError
        When there is none of this name; says which there are.
    """
    return _found(label_sets(), name, "label set")


def class_set(name: str) -> ClassSet:
    """Return a class set.

    Raises
    ------
    StoreError
        When there is none of this name; says which there are.
    """
    return _found(class_sets(), name, "class set")


_Set = TypeVar("_Set", LabelSet, ClassSet)


def _found(sets: Mapping[str, _Set], name: str, what: str) -> _Set:
    if name not in sets:
        raise StoreError(f"no {what} of this name; there are {', '.join(sets)}")
    return sets[name]


def _label(entry: dict[str, Any]) -> CodedLabel:
    return CodedLabel(
        name=entry["name"], category=_concept(entry["category"]), type=_concept(entry["type"])
    )


def _class(entry: dict[str, Any]) -> CodedClass:
    return CodedClass(name=entry["name"], code=_concept(entry["code"]))


def _concept(code: list[str]) -> CodedConcept:
    value, scheme, meaning = code
    return CodedConcept(value=value, scheme=scheme, meaning=meaning)


@functools.cache
def _file() -> dict[str, Any]:
    text = resources.files("dicom_node.store").joinpath("data/label_sets.yaml").read_text("utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded
