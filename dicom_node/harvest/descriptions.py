"""From Study Description (0008,1030) to the eight study groups.

Two maps are shipped: ``as_printed`` is table A1 of the weak-label papers, mistakes included, for
reproduction; ``corrected`` has the doubtful rows put right, each with its reason. They are never
mixed. A site adds its own rows as a CSV with the columns ``study_description`` and ``groups``
(separated by semicolons, empty for "known, none of the eight").
"""

import csv
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from dicom_node.errors import ConfigError
from dicom_node.records import GROUPS

SHIPPED = ("as_printed", "corrected")
COLUMNS = ("study_description", "groups")


class DescriptionMap:
    """Which groups a study description stands for.

    Parameters
    ----------
    groups : dict
        Normalised description to groups.
    """

    def __init__(self, groups: dict[str, frozenset[str]]) -> None:
        self._groups = groups

    def __len__(self) -> int:
        return len(self._groups)

    def groups(self, description: str) -> frozenset[str] | None:
        """Return the groups of a description, None when it is not mapped."""
        return self._groups.get(normalised(description))


def normalised(description: str) -> str:
    """Return a description without differences of case and space, and without control codes."""
    printable = (c if c.isprintable() else " " for c in description)
    return " ".join("".join(printable).upper().split())


def load_map(shipped: str, site: Path | None = None) -> DescriptionMap:
    """Read a shipped map, and the site's own rows on top.

    Parameters
    ----------
    shipped : str
        ``as_printed`` or ``corrected``.
    site : Path, optional
        CSV of the site; its rows win.

    Raises
    ------
    ConfigError
        When the map does not exist, or a row of the site cannot be used.
    """
    if shipped not in SHIPPED:
        raise ConfigError(f"no map {shipped!r} of study descriptions; there are {SHIPPED}")
    data = resources.files("dicom_node.harvest").joinpath("data", f"{shipped}.csv")
    groups = _read(data.read_text("utf-8").splitlines(), f"{shipped}.csv")
    if site is not None:
        try:
            lines = site.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(
                f"{site}: harvest.site_labels cannot be read ({type(exc).__name__}); "
                "it is a CSV in UTF-8"
            ) from None
        groups |= _read(lines, str(site))
    return DescriptionMap(groups)


def _read(lines: Iterable[str], name: str) -> dict[str, frozenset[str]]:
    reader = csv.DictReader(lines)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"{name}:1: no column {missing[0]!r}; the columns are {COLUMNS}")
    found: dict[str, frozenset[str]] = {}
    for row in reader:
        description = normalised(row["study_description"] or "")
        names = {part.strip().lower() for part in (row["groups"] or "").split(";")} - {""}
        where = f"{name}:{reader.line_num}"
        if not description:
            raise ConfigError(f"{where}: no study description; fill it in or delete the row")
        if not names <= set(GROUPS):
            raise ConfigError(
                f"{where}: unknown group {min(names - set(GROUPS))!r}; known: {', '.join(GROUPS)}"
            )
        if found.setdefault(description, frozenset(names)) != names:
            raise ConfigError(f"{where}: stands twice with different groups; keep one row")
    return found
