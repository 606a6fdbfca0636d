"""From Study Description (0008,1030) to the eight study groups.

Two maps are shipped: ``as_printed`` is table A1 of the weak-label papers, mistakes included, for
reproduction; ``corrected`` has the doubtful rows put right, each with its reason. They are never
mixed. A site adds its own rows as a CSV with the columns ``study_description`` and ``groups``
(separated by semicolons, empty for "known, none of the eight").

Other words of a header teach something too (``data/sources.csv``). A row of theirs has the keyword
of their attribute in a column ``source``, as ``ImageType``, and stands in the same file. Columns
``why`` and ``note`` are for the site's own eyes.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dicom_node.errors import ConfigError
from dicom_node.harvest.site_csv import site_rows, site_text
from dicom_node.records import GROUPS
from dicom_node.store import Source

SHIPPED = ("as_printed", "corrected")
COLUMNS = ("study_description", "groups")
CELLS_CURE = (
    "separate groups by semicolons, put a description that holds a comma into quotes, and write "
    "the comma before an empty cell"
)
#: Sources that a row may be of.
MAPPED = tuple(source.value for source in Source if source is not Source.TRANSDUCER_DATA)


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """What a table says of words."""

    groups: frozenset[str]
    #: which table it was
    rule: str


#: Source and normalised words.
Key = tuple[Source, str]


class DescriptionMap:
    """Which groups a study description, or the words of another source, stands for.

    Parameters
    ----------
    rows : mapping
        Source and normalised words to their groups.
    """

    def __init__(self, rows: Mapping[Key, Mapped]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return sum(source is Source.STUDY_DESCRIPTION for source, _ in self._rows)

    def groups(self, description: str) -> frozenset[str] | None:
        """Return the groups of a study description, None when it is not mapped."""
        found = self.mapped(Source.STUDY_DESCRIPTION, description)
        return None if found is None else found.groups

    def mapped(self, source: Source, words: str) -> Mapped | None:
        """Return what is known of words, None when nothing is.

        Performed Procedure Step Description is text of the same kind as Study Description, and what
        is known of the one holds for the other.
        """
        text = normalised(words)
        found = self._rows.get((source, text))
        if found is None and source is Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION:
            return self._rows.get((Source.STUDY_DESCRIPTION, text))
        return found

    def with_decisions(self, decisions: Mapping[Key, frozenset[str]]) -> "DescriptionMap":
        """Return the map with decisions on top of every row."""
        decided = {key: Mapped(groups=groups, rule="decision") for key, groups in decisions.items()}
        return DescriptionMap({**self._rows, **decided})


def normalised(description: str) -> str:
    """Return a description without differences of case, space and character set."""
    # one text, written in two character sets, may come as other code points (NFKC makes them one)
    text = unicodedata.normalize("NFKC", description)
    printable = (c if c.isprintable() else " " for c in text)
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
    rows: dict[Key, Mapped] = {}
    for name, rule in (("sources", "second sources"), (shipped, shipped.replace("_", " "))):
        data = resources.files("dicom_node.harvest").joinpath("data", f"{name}.csv")
        rows |= _read(data.read_text("utf-8"), f"{name}.csv", rule)
    if site is not None:
        rows |= _read(site_text(site, "harvest.site_labels"), str(site), "site")
    return DescriptionMap(rows)


def groups_of(words: str, where: str) -> frozenset[str]:
    """Return groups from a list with semicolons.

    Raises
    ------
    ConfigError
        When there is no such group; the message begins with `where`.
    """
    names = {part.strip().lower() for part in words.split(";")} - {""}
    if not names <= set(GROUPS):
        raise ConfigError(
            f"{where}: unknown group {min(names - set(GROUPS))!r}; known: {', '.join(GROUPS)}"
        )
    return frozenset(names)


def _read(text: str, name: str, rule: str) -> dict[Key, Mapped]:
    found: dict[Key, Mapped] = {}
    for where, row in site_rows(text, name, columns=COLUMNS, more=("source",), cure=CELLS_CURE):
        description = normalised(row["study_description"])
        source = row["source"].strip() or Source.STUDY_DESCRIPTION.value
        if not description:
            raise ConfigError(f"{where}: no study description; fill it in or delete the row")
        if source not in MAPPED:
            raise ConfigError(f"{where}: unknown source {source!r}; known: {', '.join(MAPPED)}")
        mapped = Mapped(groups=groups_of(row["groups"], where), rule=rule)
        if found.setdefault((Source(source), description), mapped) != mapped:
            raise ConfigError(f"{where}: stands twice with different groups; keep one row")
    return found
