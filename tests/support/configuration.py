"""The reference of every key of the configuration, made of the models that check it.

``python -m tests.support.configuration`` writes what stands in docs/configuration.md between
``<!-- table reference -->`` and ``<!-- end -->`` anew; the examples are those of the file above it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dicom_node import config
from tests.support.conformance import REPOSITORY, comments, page, shown, table

PAGE: Final = REPOSITORY / "docs" / "configuration.md"
#: The unit that the last word of a key stands for.
UNITS: Final[Mapping[str, str]] = {
    "_per_s": "a second",
    "_per_minute": "a minute",
    "_s": "s",
    "_gib": "GiB",
    "_mib": "MiB",
}
_TYPES: Final[Mapping[object, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    type(None): "null",
}
_BOUNDS: Final[Mapping[str, str]] = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "min_length": "{} or more characters",
    "max_length": "at most {} characters",
    "pattern": "matches `{}`",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A section of the file: its path, what it is, and which entry of a list stands for it."""

    path: str
    model: type[BaseModel]
    kind: str = ""

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.path or 'the file itself'}{self.kind and f', kind: {self.kind}'}"


def places(model: type[BaseModel] = config.Config, path: str = "", kind: str = "") -> list[Place]:
    """Return the section and all below it, in the order in which they stand in the models."""
    found = [Place(path=path, model=model, kind=kind)]
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            is_list = get_origin(_bare(field.annotation)) is tuple
            below = f"{path}.{name}".lstrip(".") + "[]" * is_list
            found += places(inner, below, _kind(inner) or kind)
    return found


def reference(examples: Mapping[str, Any]) -> str:
    """Return a table a section."""
    parts = []
    for place in places():
        about = comments(place.model)
        rows = [_row(place, name, about, examples) for name in place.model.model_fields]
        said = (place.model.__doc__ or "").strip().splitlines()[0].replace("``", "`")
        head = "key|type|unit|default|bounds|example|what it does"
        parts.append(f"\n### {place.title}\n\n{said}\n\n{table(head, rows)}")
    return "".join(parts) + "\n"


def undescribed() -> list[str]:
    """Return the keys of which the models say nothing."""
    return [
        f"{place.path}.{name}"
        for place in places()
        for name in place.model.model_fields
        if not comments(place.model).get(name)
    ]


def examples(text: str) -> dict[str, Any]:
    """Return the example of the page."""
    found: dict[str, Any] = yaml.safe_load(example(text))
    return found


def example(text: str) -> str:
    """Return the example as it stands in the page."""
    return text.split("```yaml\n")[1].partition("```")[0]


def example_of(place: Place, name: str, values: Mapping[str, Any]) -> Any:
    """Return what the example says of a key.

    Raises
    ------
    KeyError
        When it says nothing.
    """
    at: Any = values
    for step in filter(None, place.path.split(".")):
        at = at[step.removesuffix("[]")]
        if step.endswith("[]"):
            at = [one for one in at if not place.kind or one.get("kind", "dimse") == place.kind]
            at = {key: value for one in at for key, value in one.items()}
    return at[name]


def _row(
    place: Place, name: str, about: Mapping[str, str], values: Mapping[str, Any]
) -> tuple[str, ...]:
    field = place.model.model_fields[name]
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    inner = _models(field.annotation)
    default = "**must be given**" if field.is_required() else _default(field)
    value = "below" if inner else f"`{_yaml(example_of(place, name, values))}`"
    bounds = "; ".join(_bounds(field))
    return (f"`{name}`", _type(field.annotation), unit, default, bounds, value, about[name])


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "below" if isinstance(value, BaseModel) else f"`{shown(value)}`"


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.strip().removesuffix("\n...").replace("|", "\\|")


def _bare(annotation: Any) -> Any:
    """Return a type without what is annotated, or may be null."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a type is made of."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field is not None else ""


def _type(annotation: Any) -> str:
    annotation = _bare(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (tuple, dict):
        first, *others = (_type(one) for one in inner if one is not ...)
        first += "s" * (first == "section")
        return f"mapping of {first} to {others[0]}" if others else f"list of {first}"
    if inner:  # one of several
        return " or ".join(dict.fromkeys(_type(one) for one in inner))
    return "section" if _models(annotation) else _TYPES.get(annotation, "anything")


def _bounds(field: FieldInfo) -> Iterator[str]:
    for constraint in (*field.metadata, *_constraints(field.annotation)):
        for name, words in _BOUNDS.items():
            bound = getattr(constraint, name, None)
            if bound is not None and not (name == "min_length" and bound == 1):
                yield words.format(str(bound).replace("|", "\\|"))


def _constraints(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        for one in get_args(annotation)[1:]:
            yield from one.metadata if isinstance(one, FieldInfo) else [one]
    for inner in get_args(annotation):
        yield from _constraints(inner)


def written(text: str) -> str:
    """Return the page with its reference made anew."""
    return page(text, {"reference": lambda: reference(examples(text))})


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
