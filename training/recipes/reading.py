"""Settings out of YAML files, with faults in the words of who wrote the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic import ValidationError
from yaml.reader import ReaderError

from dicom_node.errors import ConfigError
from training.config import Settings

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Shelf(Generic[S]):
    """Settings that are known by name: files of a folder, and any other file by its path."""

    #: holds the shipped ones
    folder: Path
    kind: type[S]
    #: how a message calls one
    what: str

    def names(self) -> list[str]:
        """Return the names of the shipped ones: those of their files, without ``.yaml``."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def load(self, name: str) -> S:
        """Read settings by their name, or from a file.

        Raises
        ------
        ConfigError
            When there is none of that name, or the file says something that is not known.
        """
        is_path = name.endswith((".yaml", ".yml"))
        path = Path(name) if is_path else self.folder / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"no {self.what} {name!r}: give one of {', '.join(self.names())}, or the path of a "
                ".yaml file"
            )
        return read_settings(path, self.kind)


def read_settings(path: Path, kind: type[S]) -> S:
    """Read settings from a YAML file.

    Raises
    ------
    ConfigError
        One line a fault: ``file: key: what is wrong; what to do``.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc})") from None
    values = _parsed(text, path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {values!r}")
    return checked(values, kind, where=str(path))


def _parsed(text: str, path: Path) -> object:
    try:
        return yaml.safe_load(text)
    except ReaderError as exc:
        # it comes before any parsing, and knows a place but no line
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError(
            f"{path}:{line}: holds the control character {text[exc.position]!r}, which YAML has no "
            "place for; delete it, or save the file as plain UTF-8 text"
        ) from None
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {exc.problem}; check indentation") from None


def checked(values: Mapping[str, object], kind: type[S], *, where: str) -> S:
    """Make settings of plain values.

    Raises
    ------
    ConfigError
        One line a fault, beginning with `where`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        raise ConfigError("\n".join(_faults(exc, kind, where))) from None


def _faults(error: ValidationError, kind: type[Settings], where: str) -> list[str]:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = (
                f"; known here: {', '.join(kind.model_fields)}" if len(fault["loc"]) == 1 else ""
            )
            what = f"unknown key{known}"
        elif fault["type"] == "missing":
            what = "missing; add it"
        elif fault["type"] == "value_error" and isinstance(fault["input"], dict):
            # of several keys together: the fault says which, and what of them will not do
            what = str(fault["ctx"]["error"])
        else:
            what = f"{fault['input']!r} will not do: {fault['msg']}"
        lines.append(": ".join(part for part in (where, key, what) if part))
    return lines
