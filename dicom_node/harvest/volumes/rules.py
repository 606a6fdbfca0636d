"""The tables of ``data/volume_labels.yaml``, read once."""

import functools
import re
import unicodedata
from importlib import resources
from typing import Any, Final, Literal

import yaml
from pydantic import Field

from dicom_node.destinations import Section
from dicom_node.store.volumes import REGIONS, SEQUENCES

#: What a word is made of; all else parts words.
_WORD: Final = re.compile(r"[A-Z0-9+]+")
#: Longer text is no LO (PS3.5 6.2) and is cut.
_MOST_CHARACTERS: Final = 512
Range = tuple[float, float]
Phrase = tuple[str, ...]


class NamedRule(Section):
    """A row that makes a pulse sequence."""

    name: str
    is_: str = Field(alias="is")


class SequenceRule(NamedRule):
    """Times that make a pulse sequence, in ms; half-open ranges."""

    scan: Literal["SE", "IR"]
    echo_ms: Range
    repetition_ms: Range | None = None
    inversion_ms: Range | None = None
    #: words in which another sequence is named
    none: frozenset[str] = frozenset()


class WordRule(NamedRule):
    """Words that make a pulse sequence."""

    all: frozenset[str]
    any: frozenset[str] = frozenset()
    none: frozenset[str] = frozenset()


class ContrastRules(Section):
    """Words that grant or deny a contrast agent; the file says how they are read."""

    spelt: dict[str, Phrase]
    fillers: frozenset[str]
    unclear: frozenset[str]
    no_agent: frozenset[str]
    no_agent_beside: frozenset[str]
    no_agent_whole: frozenset[Phrase]
    denials: frozenset[str]
    agents: frozenset[str]
    with_: tuple[Phrase, ...] = Field(alias="with")
    without: tuple[Phrase, ...]
    both: tuple[tuple[frozenset[str], frozenset[str]], ...]


class RegionRule(Section):
    """What words say of the nine regions."""

    words: frozenset[str]
    phrases: frozenset[Phrase] = frozenset()
    shows: frozenset[Literal[REGIONS]]  # type: ignore[valid-type]
    may: frozenset[Literal[REGIONS]]  # type: ignore[valid-type]
    #: along an axial series: of a shorter one a piece is shown, a longer one may show everything
    least_mm: float
    most_mm: float

    @property
    def says(self) -> frozenset[Phrase]:
        """Its words and phrases."""
        return self.phrases | {(word,) for word in self.words}


class Rules(Section):
    """Everything in the file."""

    sequences: tuple[SequenceRule, ...]
    sequence_words: tuple[WordRule, ...]
    contrast: ContrastRules
    regions: tuple[RegionRule, ...]
    #: no axial series that is longer is without a head, whatever it is called
    headless_mm: float

    @property
    def named(self) -> tuple[NamedRule, ...]:
        """The rows that make a pulse sequence."""
        return (*self.sequences, *self.sequence_words)


@functools.cache
def load_rules() -> Rules:
    """Read the tables."""
    file = resources.files("dicom_node.harvest") / "data" / "volume_labels.yaml"
    values: Any = yaml.safe_load(file.read_text("utf-8"))
    rules = Rules.model_validate(values, strict=False)
    unknown = {rule.is_ for rule in rules.named} - set(SEQUENCES)
    if unknown:
        raise ValueError(f"volume_labels.yaml: no such sequence: {', '.join(sorted(unknown))}")
    return rules


def stands_in(phrase: Phrase, words: Phrase) -> bool:
    """Whether words hold all of a phrase, in a row."""
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))


def words_in(text: str) -> tuple[str, ...]:
    """Return the words of a text in order, without accents: "T2 Tête w/o" is T2, TETE, W, O."""
    parts = unicodedata.normalize("NFKD", text[:_MOST_CHARACTERS])
    return tuple(_WORD.findall("".join(c for c in parts if not unicodedata.combining(c)).upper()))
