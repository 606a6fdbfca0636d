"""Objects that are small and owed to somebody."""

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.records import Result, ResultKind

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


def result(
    folder: Path, uid: str, sop_class: str = SEG, kind: str = "seg", *, study: str = "1.2"
) -> Result:
    """Write a small object; return what is owed of it."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, "1.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{uid}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Result(
        kind=ResultKind(kind),
        sop_instance_uid=uid,
        sop_class_uid=sop_class,
        study_instance_uid=study,
        source_sop_instance_uid="1.9",
        path=path,
    )
