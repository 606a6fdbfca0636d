"""What SEG and SR have in common: the stand-in for the source, codes, equipment, references."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import highdicom as hd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import UID

from dicom_node.codes import PROCESSING_ALGORITHM
from dicom_node.errors import ResultError
from dicom_node.records import Algorithm, CodedConcept, ImageFacts
from dicom_node.results.installation import Installation
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

_STILL: Final = "1.2.840.10008.5.1.4.1.1.6.1"
CINE: Final = "1.2.840.10008.5.1.4.1.1.3.1"
#: Ultrasound Multi-frame and Enhanced US Volume
_WITH_FRAMES: Final = frozenset({CINE, "1.2.840.10008.5.1.4.1.1.6.2"})
#: SpecificCharacterSet of everything that the node writes: UTF-8
UNICODE: Final = "ISO_IR 192"
_LONG_STRING: Final = 64


def referenced_class(source: Source) -> str:
    """Return the SOP class by which the source is referred to: its own, but for one case.

    Referenced Frame Number (0008,1160) is for multi-frame classes (PS3.3 10.3). Archives hold cines
    in single-frame and retired classes; a SEG that could not say which frame it means would be
    drawn on the wrong one. Those are referred to as Ultrasound Multi-frame Image Storage.
    """
    own = source.instance.sop_class_uid
    return own if source.facts.number_of_frames == 1 or own in _WITH_FRAMES else CINE


def stand_in(source: Source) -> Dataset:
    """Return a header that highdicom accepts in place of the source's own.

    highdicom knows neither retired nor private image classes, and takes no multi-frame image in a
    single-frame class. `finish` puts the true class back into the references.
    """
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(source.instance.transfer_syntax_uid)
    header.SpecificCharacterSet = UNICODE
    header.SOPClassUID = CINE if source.facts.number_of_frames > 1 else _STILL
    header.SOPInstanceUID = source.instance.sop_instance_uid
    header.SeriesInstanceUID = source.instance.series_instance_uid
    header.StudyInstanceUID = source.instance.study_instance_uid
    header.Modality = "US"
    header.Rows = source.facts.rows
    header.Columns = source.facts.columns
    for keyword, value in source.patient_and_study.items():
        setattr(header, keyword, value or None)
    return header


def finish(dataset: Dataset, source: Source) -> None:
    """Give the object the same Patient and Study modules whatever its class."""
    for keyword, value in source.patient_and_study.items():
        setattr(dataset, keyword, value or None)
    if referenced_class(source) != stand_in(source).SOPClassUID:
        _restore_class(dataset, source)


def check_frames(frames: Sequence[int], facts: ImageFacts) -> None:
    """Raise ResultError unless the frame numbers ascend and the image has them."""
    if list(frames) != sorted({*frames} & {*range(1, facts.number_of_frames + 1)}):
        raise ResultError(
            f"frame numbers {[*frames]} must ascend and lie in 1..{facts.number_of_frames}"
        )


def concept(code: CodedConcept) -> hd.sr.CodedConcept:
    """Return the code as highdicom wants it."""
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def equipment(algorithms: Iterable[Algorithm]) -> list[hd.ContributingEquipment]:
    """Describe each model as Contributing Equipment (0018,A001), as IHE AIR asks.

    Device UID (0018,1002) follows from the digest, so that it changes with every training.
    """
    items = []
    for algorithm in algorithms:
        item = hd.ContributingEquipment(
            manufacturer=shortened(algorithm.manufacturer),
            purpose_of_reference=dicom_codes.DCM.ProcessingEquipment,
            manufacturer_model_name=shortened(algorithm.name),
            software_versions=shortened(algorithm.version),
            contribution_description=f"Model sha256={algorithm.digest}",
        )
        # highdicom takes no purpose but those of CID 7005, which may be extended
        item.PurposeOfReferenceCodeSequence = [concept(PROCESSING_ALGORITHM)]
        item.DeviceUID = derived_uid("device", algorithm.digest)
        items.append(item)
    return items


def series_description(what: str, algorithms: Iterable[Algorithm], source: Source) -> str:
    """Say that it is AI, of which image of the series, and of which model.

    The image comes first: a viewer's list shows some 20 characters, and there may be many images.
    """
    names = ", ".join(dict.fromkeys(f"{a.name} {a.version}" for a in algorithms))
    image = f"image {source.number}, " if source.number else ""
    return shortened(f"AI {image}{what}: {names}")


def writer(installation: Installation) -> dict[str, Any]:
    """General Equipment (PS3.3 C.7.5.1, C.7.5.2) as arguments of highdicom."""
    return {
        "manufacturer": installation.manufacturer,
        "manufacturer_model_name": installation.manufacturer,
        "software_versions": installation.software_version,
        "device_serial_number": installation.serial,
    }


def shortened(value: str, limit: int = _LONG_STRING) -> str:
    """Cut text to the length of an LO (PS3.5 6.2); an ellipsis tells."""
    line = " ".join(value.replace("\\", "/").split())
    return line if len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def _restore_class(dataset: Dataset, source: Source) -> None:
    """Write the source's SOP class into every reference to it."""
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            if item.get("ReferencedSOPInstanceUID") == source.instance.sop_instance_uid:
                item.ReferencedSOPClassUID = referenced_class(source)
            _restore_class(item, source)
