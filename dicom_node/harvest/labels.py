"""The weak labels of one instance: what the scanner's own words teach."""

from pathlib import Path

from dicom_node.harvest.tables import Tables
from dicom_node.harvest.transducer import resolve
from dicom_node.harvest.words import Words, read_words
from dicom_node.records import WeakLabels


def weak_labels(path: Path, tables: Tables) -> WeakLabels:
    """Read the weak labels from a file's header.

    Parameters
    ----------
    path : Path
        A DICOM file with File Meta Information.
    tables : Tables
        What words stand for.

    Raises
    ------
    UnreadableError
        When the bytes are not readable as DICOM.
    """
    return labels_of(read_words(path), tables)


def labels_of(words: Words, tables: Tables) -> WeakLabels:
    """Return the weak labels of a header that was read already."""
    transducer = resolve(
        manufacturer=words.manufacturer,
        model_name=words.model_name,
        transducer_data=words.transducer_data,
        transducer_type=words.transducer_type,
        site=tables.transducers,
    )
    groups = tables.descriptions.groups(words.study_description)
    return WeakLabels(
        probe=transducer.probe,
        geometry=transducer.geometry,
        geometry_rule=transducer.rule,
        groups=groups or frozenset(),
        description_mapped=groups is not None,
    )
