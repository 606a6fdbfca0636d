"""A new table, or a decision, applied to what is in the store: no frame is read or written.

The store holds pseudonyms of the words that it was labelled by, the private notes hold the words.
"""

from dataclasses import dataclass

from dicom_node.harvest.evidence import text_evidence, transducer_token
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.transducer import resolve
from dicom_node.store import Source, WeakLabelStore


@dataclass(frozen=True, kw_only=True)
class RelabelCount:
    """How many instances have other labels than before."""

    groups: int
    probes: int


def relabel(
    tables: Tables, *, store: WeakLabelStore, notes: PrivateNotes, key: PseudonymKey
) -> RelabelCount:
    """Bring the labels in a store up to the tables; may be repeated at any time.

    Parameters
    ----------
    tables : Tables
        What words stand for today.
    store : WeakLabelStore
        Gets new groups and probes.
    notes : PrivateNotes
        The words that were met.
    key : PseudonymKey
        The key that the store was harvested with.

    Raises
    ------
    TemporaryError
        When the disk does not take it.
    """
    label_map = tables.descriptions
    said = [(Source.STUDY_DESCRIPTION, s.description) for s in notes.descriptions(label_map)]
    said += [(seen.source, seen.term) for seen in notes.terms(label_map)]
    groups = store.evidence.relabel(
        text_evidence(source, text, label_map, key) for source, text in said
    )
    return RelabelCount(groups=groups, probes=_relabel_probes(tables, store, notes, key))


def _relabel_probes(
    tables: Tables, store: WeakLabelStore, notes: PrivateNotes, key: PseudonymKey
) -> int:
    changed = 0
    for seen in notes.transducers(tables.transducers):
        words = {
            "manufacturer": seen.manufacturer,
            "model_name": seen.model_name,
            "transducer_data": seen.transducer_data,
            "transducer_type": seen.transducer_type,
        }
        found = resolve(**words, site=tables.transducers)
        changed += store.evidence.relabel_probe(
            transducer_token(words.values(), key),
            probe=found.probe,
            geometry=found.geometry,
            geometry_rule=found.rule,
        )
    return changed
