"""The modules of an SR document around its content tree (PS3.3 A.35.13.3).

highdicom's own document classes copy the tree twice and search it twice for references: half the
time of a report on a still. This one takes the tree as it is; a test holds it against theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.records import Result


class Document(hd.SOPClass):
    """A complete, final and unverified SR document: no person has seen it.

    Patient and Study are empty until `dicom_node.results.parts.finish`.

    Parameters
    ----------
    image : Dataset
        Header of what it speaks of, its only evidence (PS3.3 C.17.2.3).
    content : Dataset
        Root of the content tree; becomes a part of the document.
    predecessors : iterable of Result
        Documents that it replaces.
    equipment : iterable of hd.ContributingEquipment
        What contributed besides highdicom.
    arguments
        Those of `highdicom.SOPClass`.
    """

    def __init__(
        self,
        *,
        image: Dataset,
        content: Dataset,
        predecessors: Iterable[Result],
        equipment: Iterable[hd.ContributingEquipment],
        **arguments: Any,
    ) -> None:
        super().__init__(
            study_instance_uid=image.StudyInstanceUID,
            modality="SR",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **arguments,
        )
        self.CompletionFlag = "COMPLETE"
        self.VerificationFlag = "UNVERIFIED"
        self.PreliminaryFlag = "FINAL"
        for element in content:
            self[element.tag] = element
        evidence = _Reference(
            image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID
        )
        self.CurrentRequestedProcedureEvidenceSequence = _hierarchical([evidence])
        replaced = [_reference(result) for result in predecessors]
        if replaced:
            self.PredecessorDocumentsSequence = _hierarchical(replaced)
        # of type 2: nobody tells the node who asked for the procedure
        self.PerformedProcedureCodeSequence: list[Dataset] = []
        self.ReferencedPerformedProcedureStepSequence: list[Dataset] = []
        self.ContributingEquipmentSequence = [
            *equipment,
            hd.ContributingEquipment.for_highdicom(),
        ]


class _Reference(NamedTuple):
    study: str
    series: str
    sop_class: str
    sop_instance: str


def _reference(result: Result) -> _Reference:
    return _Reference(
        result.study_instance_uid,
        result.series_instance_uid,
        result.sop_class_uid,
        result.sop_instance_uid,
    )


def _hierarchical(references: Sequence[_Reference]) -> list[Dataset]:
    """Return a Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) for each study."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class
        item.ReferencedSOPInstanceUID = reference.sop_instance
        series = studies.setdefault(reference.study, {})
        series.setdefault(reference.series, []).append(item)
    return [_study_item(uid, series) for uid, series in studies.items()]


def _study_item(study_instance_uid: str, series: Mapping[str, list[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for uid, items in series.items():
        entry = Dataset()
        entry.SeriesInstanceUID = uid
        entry.ReferencedSOPSequence = items
        study.ReferencedSeriesSequence.append(entry)
    return study
