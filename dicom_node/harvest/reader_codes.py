"""What the codes in readers' objects stand for in the store.

A segment's type is looked up in the label sets (``dicom_node/store/data/label_sets.yaml``); former
codes of SNOMED (SRT) count as those of today (SCT). A site adds a CSV on top: ``code`` as
``SCT:10200004``; ``label`` with the Segment Label where the code does not tell (OHIF writes
"Tissue" for all); and ``stands_for``: ``liver-kidney/liver``, ``breast/benign``, ``quality`` for a
number that is 0 to 4, ``quality/3`` for an answer that is a code, or nothing for "known, none of
these".
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.sr._snomed_dict import mapping as snomed_mapping

from dicom_node import codes
from dicom_node.errors import ConfigError
from dicom_node.harvest.site_csv import site_rows, site_text
from dicom_node.store import QUALITY
from dicom_node.store.label_sets import class_sets, label_sets
from dicom_node.store.records import BEST_QUALITY

COLUMNS: Final = ("code", "label", "stands_for")
#: (111029,DCM,"Image Quality Rating") counts to 100 (PS3.16 D).
IMAGE_QUALITY_RATING: Final = "DCM:111029"
BEST_RATING: Final = 100
#: CID 3114; it has no word for 2.
_RATINGS: Final = {"DCM:111235": 0, "DCM:122742": 1, "DCM:122741": 3, "DCM:122740": 4}


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a code stands for."""

    #: `QUALITY`, a label set or a class set; "" for none of them
    about: str
    #: of the mask, of the class in its set, or of the quality; None where a number follows
    value: int | None = None
    #: what the number is divided by
    scale: float = 1.0


NOTHING: Final = Meaning(about="")
#: Code and Segment Label, normalised; "" for any label.
Key = tuple[str, str]


class ReaderCodes:
    """What codes stand for.

    Parameters
    ----------
    meanings : mapping
        By code and label.
    """

    def __init__(self, meanings: Mapping[Key, Meaning]) -> None:
        self._meanings = dict(meanings)

    def meaning(self, code: str, label: str = "") -> Meaning | None:
        """Return what a code stands for, `NOTHING` for none of ours, None where nobody says."""
        known = self._meanings.get((code, _normalised(label)))
        return known or self._meanings.get((code, ""))

    @property
    def fingerprint(self) -> str:
        """Tells equal meanings from others."""
        return hashlib.sha256(repr(sorted(self._meanings.items(), key=repr)).encode()).hexdigest()


def code_of(value: str, scheme: str) -> str:
    """Return a code as one word; a former SNOMED code as that of today."""
    today = snomed_mapping["SRT"].get(value) if scheme in ("SRT", "SNM3", "99SDM") else None
    return f"SCT:{today}" if today else f"{scheme}:{value}"


def load_reader_codes(site: Path | None = None) -> ReaderCodes:
    """Return the shipped meanings, and the site's own on top.

    Raises
    ------
    ConfigError
        When a row of the site cannot be used.
    """
    meanings: dict[Key, Meaning] = dict(_shipped())
    if site is None:
        return ReaderCodes(meanings)
    return ReaderCodes(meanings | _read(site_text(site, "harvest.reader_codes"), str(site)))


def _shipped() -> Iterator[tuple[Key, Meaning]]:
    for name, labels in label_sets().items():
        for value, label in enumerate(labels.labels, start=1):
            code = code_of(label.type.value, label.type.scheme)
            yield (code, ""), Meaning(about=name, value=value)
    ours = codes.VIEW_QUALITY
    yield (code_of(ours.value, ours.scheme), ""), Meaning(about=QUALITY)
    scale = BEST_RATING / BEST_QUALITY
    yield (IMAGE_QUALITY_RATING, ""), Meaning(about=QUALITY, scale=scale)
    for code, value in _RATINGS.items():
        yield (code, ""), Meaning(about=QUALITY, value=value)


def _read(text: str, name: str) -> dict[Key, Meaning]:
    found: dict[Key, Meaning] = {}
    for where, row in site_rows(text, name, columns=COLUMNS):
        scheme, _, value = row["code"].strip().rpartition(":")
        if not scheme or not value:
            raise ConfigError(f"{where}: no code; write it as SCT:10200004")
        key = code_of(value, scheme), _normalised(row["label"])
        meaning = _meaning(row["stands_for"].strip(), where)
        if found.setdefault(key, meaning) != meaning:
            raise ConfigError(f"{where}: stands twice with different meanings; keep one row")
    return found


def _meaning(words: str, where: str) -> Meaning:
    about, _, name = words.partition("/")
    if not words:
        return NOTHING
    if about == QUALITY:
        known = [str(score) for score in range(BEST_QUALITY + 1)]
        if not name:
            return Meaning(about=QUALITY)
        offset = 0
    elif about in label_sets():
        known, offset = list(label_sets()[about].names), 1
    elif about in class_sets():
        known, offset = list(class_sets()[about].names), 0
    else:
        sets = ", ".join((QUALITY, *label_sets(), *class_sets()))
        raise ConfigError(f"{where}: no set {about!r}; there are {sets}")
    if name not in known:
        raise ConfigError(f"{where}: no {name!r} in {about}; it has {', '.join(known)}")
    return Meaning(about=about, value=known.index(name) + offset)


def _normalised(label: str) -> str:
    return " ".join(label.upper().split())
