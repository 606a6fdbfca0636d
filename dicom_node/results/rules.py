"""What the standard asks of any SEG or SR, whatever it says: what is missing, what is illegal.

The gate holds an object against what was meant; these rules hold it against PS3.3 and PS3.5, in
seconds less than a validator needs. Faults are named by attribute, never by value.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from dicom_node.results.source import Source

_PATIENT_GROUP: Final = 0x0010
#: of every object (PS3.3 C.7.3.1, C.7.5.1, C.7.5.2, C.12.1)
_ALWAYS: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ContentDate",
    "ContentTime",
    "SpecificCharacterSet",
)
#: Segmentation, Label Map Segmentation; Enhanced, Comprehensive, Comprehensive 3D SR
_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "SEG": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
    "SR": (
        "1.2.840.10008.5.1.4.1.1.88.22",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    ),
}
#: Type 1 by Modality (PS3.3 A.51.3, A.35.13.3).
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "SEG": (
        *_ALWAYS,
        "ImageType",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "PixelData",
        "LossyImageCompression",
        "SegmentationType",
        "ContentLabel",
        "SegmentSequence",
        "NumberOfFrames",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
    ),
    "SR": (
        *_ALWAYS,
        "CompletionFlag",
        "VerificationFlag",
        "ValueType",
        "ConceptNameCodeSequence",
        "ContinuityOfContent",
        "ContentTemplateSequence",
        "ContentSequence",
    ),
}
#: Type 1 in the items of sequences, at any depth.
_REQUIRED_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "ContributingEquipmentSequence": ("PurposeOfReferenceCodeSequence", "Manufacturer"),
    "DimensionIndexSequence": ("DimensionIndexPointer", "DimensionOrganizationUID"),
    "DimensionOrganizationSequence": ("DimensionOrganizationUID",),
    "FrameContentSequence": ("DimensionIndexValues",),
    "MeasuredValueSequence": ("NumericValue", "MeasurementUnitsCodeSequence"),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "ReferencedInstanceSequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "ReferencedSOPSequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "SegmentIdentificationSequence": ("ReferencedSegmentNumber",),
    "SegmentSequence": (
        "SegmentNumber",
        "SegmentLabel",
        "SegmentAlgorithmType",
        "SegmentAlgorithmName",
        "SegmentedPropertyCategoryCodeSequence",
        "SegmentedPropertyTypeCodeSequence",
    ),
    "SourceImageSequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
}
#: Of a code (PS3.3 8.8): one of the first three, and the other two.
_CODE_VALUES: Final = ("CodeValue", "LongCodeValue", "URNCodeValue")
_CODE_NEEDS: Final = ("CodingSchemeDesignator", "CodeMeaning")
_TEXT_VRS: Final = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UR", "UT"]
)


def rule_faults(dataset: Dataset, source: Source, modality: str) -> list[str]:
    """Return what the standard would not have.

    Parameters
    ----------
    dataset : Dataset
        As it was read back, with its File Meta Information.
    source : Source
        The image; what was taken from it verbatim is excused.
    modality : str
        SEG or SR.

    Returns
    -------
    list of str
        Names of attributes, each once.
    """
    faults = [*_meta_faults(dataset), *_identity_faults(dataset, source)]
    if dataset.get("SOPClassUID") not in _CLASSES[modality]:
        faults.append("SOPClassUID")
    faults += [f"{key} is missing" for key in _REQUIRED[modality] if not _has(dataset, key)]
    known = {
        uid
        for image in (one.instance for one in (source, *source.stills))
        for uid in (
            image.study_instance_uid,
            image.series_instance_uid,
            image.sop_instance_uid,
            image.sop_class_uid,
        )
    }
    faults += _walk(dataset, known, frozenset(source.patient_and_study))
    return list(dict.fromkeys(faults))


def _meta_faults(dataset: Dataset) -> Iterator[str]:
    """Yield what File Meta Information (PS3.10 7.1) says otherwise than the data set."""
    meta = dataset.file_meta
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if meta.get(f"MediaStorage{keyword}") != dataset.get(keyword):
            yield f"MediaStorage{keyword}"
    if meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        yield "TransferSyntaxUID"


def _identity_faults(dataset: Dataset, source: Source) -> Iterator[str]:
    """Yield what the object says of the patient that the image does not, and the other way."""
    for keyword in source.patient_and_study:
        if keyword not in dataset:
            yield f"{keyword} is missing"
    for element in dataset.group_dataset(_PATIENT_GROUP):
        if element.keyword not in source.patient_and_study:
            yield f"{element.keyword or element.tag} is not in the image"
    if "StudyDescription" in dataset and "StudyDescription" not in source.patient_and_study:
        yield "StudyDescription is not in the image"
    if dataset.get("SeriesInstanceUID") == source.instance.series_instance_uid:
        yield "SeriesInstanceUID is the image's"


def _walk(dataset: Dataset, known_uids: set[str], excused: frozenset[str]) -> Iterator[str]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _item_faults(element.keyword, item)
                yield from _walk(item, known_uids, frozenset())
        elif element.keyword not in excused and not _is_legal(element, known_uids):
            yield f"{element.keyword or element.tag} is not legal"


def _item_faults(sequence: str, item: Dataset) -> Iterator[str]:
    for keyword in _REQUIRED_IN.get(sequence, ()):
        if not _has(item, keyword):
            yield f"{keyword} is missing"
    if sequence.endswith("CodeSequence"):
        if not any(_has(item, keyword) for keyword in _CODE_VALUES):
            yield "CodeValue is missing"
        yield from (f"{key} is missing" for key in _CODE_NEEDS if not _has(item, key))


def _has(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute is there and not empty."""
    if keyword not in dataset:
        return False
    value = dataset.get_item(keyword).value
    return value is not None and (isinstance(value, int | float) or len(value) > 0)


def _is_legal(element: DataElement, known_uids: set[str]) -> bool:
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    if element.VR == "UI":
        return all(str(uid) in known_uids or UID(uid).is_valid for uid in values if uid)
    if element.VR not in _TEXT_VRS:
        return True
    try:
        for value in values:
            if value is not None and value != "":
                validate_value(element.VR, _written(value), config.RAISE)
    except ValueError:
        return False
    return True


def _written(value: object) -> object:
    """Return a number as it stands in the file."""
    original = getattr(value, "original_string", None)
    return value if original is None else original
