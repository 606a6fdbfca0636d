"""From the words of a header to what the store keeps of them: groups, and pseudonyms."""

from collections.abc import Iterable

from dicom_node.harvest.descriptions import DescriptionMap, normalised
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.words import Words
from dicom_node.store import Evidence, Source

#: Longer text is no LO (PS3.5 6.2) and is cut.
MOST_CHARACTERS = 512


def evidence_of(words: Words, tables: Tables, key: PseudonymKey) -> tuple[Evidence, ...]:
    """Return what every source in a header says."""
    said = [(Source.STUDY_DESCRIPTION, normalised(words.study_description))]
    said += [(term.source, term.words) for term in words.terms]
    groups = [
        text_evidence(source, text, tables.descriptions, key) for source, text in said if text
    ]
    probe = (words.manufacturer, words.model_name, words.transducer_data, words.transducer_type)
    term = transducer_token(probe, key)
    return (*groups, Evidence(source=Source.TRANSDUCER_DATA, term=term, groups=None))


def text_evidence(
    source: Source, text: str, label_map: DescriptionMap, key: PseudonymKey
) -> Evidence:
    """Return what one source says with these words."""
    mapped = label_map.mapped(source, text)
    return Evidence(
        source=source,
        term=key.token("description", text[:MOST_CHARACTERS]),
        groups=mapped.groups if mapped else None,
        rule=mapped.rule if mapped else "none",
    )


def transducer_token(words: Iterable[str], key: PseudonymKey) -> str:
    """Return the pseudonym of Manufacturer, model name, Transducer Data and Transducer Type."""
    return key.token("transducer", "\0".join(part[:MOST_CHARACTERS] for part in words))


def description_of(evidence: Iterable[Evidence]) -> str | None:
    """Return the pseudonym of Study Description, None where there is none."""
    return next((e.term for e in evidence if e.source is Source.STUDY_DESCRIPTION), None)
