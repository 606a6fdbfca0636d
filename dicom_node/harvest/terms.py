"""What a header says of the examination besides Study Description.

The preset (Processing Function), the third value of Image Type, the step that was performed and the
codes of procedure, region and view: they confirm Study Description, or they contradict it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.errors import UnreadableError
from dicom_node.harvest.descriptions import normalised
from dicom_node.header import BROKEN_BYTES, text
from dicom_node.store import Source

#: Attributes that are text, and those that hold codes.
TEXTS = (
    Source.PROCESSING_FUNCTION,
    Source.IMAGE_TYPE,
    Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION,
)
SEQUENCES = (
    Source.PROCEDURE_CODE_SEQUENCE,
    Source.ANATOMIC_REGION_SEQUENCE,
    Source.VIEW_CODE_SEQUENCE,
)
#: More codes are not looked at.
MOST_CODES = 4


@dataclass(frozen=True, kw_only=True)
class Term:
    """What one source says. Private: it may hold what somebody typed."""

    source: Source
    #: normalised text, or a code as ``SCT:10200004``
    words: str
    #: Code Meaning (0008,0104), "" for a text
    meaning: str = ""


def read_terms(header: Dataset) -> tuple[Term, ...]:
    """Return what the sources say; one that is absent or not readable says nothing."""
    found = {(term.source, term.words): term for term in _terms(header) if term.words}
    return tuple(found.values())


def _terms(header: Dataset) -> Iterator[Term]:
    for source in TEXTS:
        words = _text(header, source.value)
        if source is Source.IMAGE_TYPE:
            words = "".join(words.split("\\")[2:3])
        yield Term(source=source, words=normalised(words))
    for source in SEQUENCES:
        for item in _items(header, source.value):
            value = _text(item, "CodeValue") or _text(item, "LongCodeValue")
            code = f"{_text(item, 'CodingSchemeDesignator')}:{value}" if value else ""
            meaning = normalised(_text(item, "CodeMeaning"))
            yield Term(source=source, words=normalised(code), meaning=meaning)


def _items(header: Dataset, keyword: str) -> list[Dataset]:
    try:
        return [item for item in header.get(keyword) or () if isinstance(item, Dataset)][
            :MOST_CODES
        ]
    except BROKEN_BYTES:
        return []


def _text(header: Dataset, keyword: str) -> str:
    """Return a text as `text` does; what is not readable costs a second opinion, and no image."""
    try:
        return text(header, keyword)
    except UnreadableError:
        return ""
