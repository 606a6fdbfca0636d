"""What the models said of one image, burnt into a copy: Secondary Capture (PS3.3 A.8.1, A.8.5).

For readers that show nothing else. A still is uncompressed, which every archive takes. A cine is
JPEG Baseline: 100 frames of 768 x 1024 are 236 MB raw, more than node and archive should hold for a
picture that only shows where to look, and archives of ultrasound take JPEG from every scanner. Its
loss is told in the object. highdicom writes neither cines nor JPEG here, so it is written by hand.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_node.errors import UnreadableError
from dicom_node.header import read_header, text
from dicom_node.records import Analysis, CodedConcept, Edition, ResultKind
from dicom_node.results.installation import Installation
from dicom_node.results.overlay import overlay_series_uid, overlay_uid
from dicom_node.results.parts import (
    UNICODE,
    concept,
    equipment,
    finish,
    referenced_class,
    series_description,
    writer,
)
from dicom_node.results.picture import Pictures, frames_shown
from dicom_node.results.report import algorithms_of
from dicom_node.results.source import Source

STILL: Final = "1.2.840.10008.5.1.4.1.1.7"
CINE: Final = "1.2.840.10008.5.1.4.1.1.7.4"
_SERIES_NUMBER: Final = 9004
#: Frame Time (0018,1063) where the source tells none
_FRAME_TIME_MS: Final = 100.0
_LONGEST_FRAME_MS: Final = 10_000.0
_DERIVATION: Final = "Outlines and words of AI models burnt into the picture; tissue in grey"


def capture_class(analysis: Analysis) -> str:
    """Return the SOP class: one for a single picture, one for several."""
    return CINE if len(frames_shown(analysis)) > 1 else STILL


def build_capture(
    source: Source,
    analysis: Analysis,
    installation: Installation,
    *,
    edition: Edition,
    pictures: Pictures,
) -> Dataset:
    """Write an analysis as a Secondary Capture.

    Parameters
    ----------
    source : Source
        The image; its size must be known.
    analysis : Analysis
        At least one model succeeded or failed.
    installation : Installation
        Who writes.
    edition : Edition
        Which version it is; a later one stands in the same series.
    pictures : Pictures
        What is shown.

    Raises
    ------
    PixelError
        When the source cannot be decoded.
    """
    capture = _opened(analysis, edition)
    _identify(capture, source, analysis, installation)
    _refer(capture, source, pictures)
    _describe_pixels(capture, source, pictures)
    if pictures.is_cine:
        _describe_cine(capture, source, pictures)
    finish(capture, source)
    return capture


def _opened(analysis: Analysis, edition: Edition) -> FileDataset:
    cine = capture_class(analysis) == CINE
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(capture_class(analysis))
    meta.MediaStorageSOPInstanceUID = UID(overlay_uid(ResultKind.SC, analysis, edition))
    meta.TransferSyntaxUID = JPEGBaseline8Bit if cine else ExplicitVRLittleEndian
    capture = FileDataset("", Dataset(), preamble=b"\0" * 128, file_meta=meta)
    capture.SpecificCharacterSet = UNICODE
    capture.SOPClassUID = meta.MediaStorageSOPClassUID
    capture.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    capture.InstanceNumber = edition.version
    return capture


def _identify(
    capture: Dataset, source: Source, analysis: Analysis, installation: Installation
) -> None:
    """Say what it is of, who made it and when."""
    now = datetime.now(UTC).astimezone()
    algorithms = algorithms_of(analysis)
    capture.StudyInstanceUID = source.instance.study_instance_uid
    capture.SeriesInstanceUID = overlay_series_uid(ResultKind.SC, analysis)
    capture.SeriesNumber = _SERIES_NUMBER
    capture.SeriesDescription = series_description("picture", algorithms, source)
    capture.Modality = "US"
    # type 2C (PS3.3 C.7.3.1): nobody says whether the body part is paired
    capture.Laterality = None
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"
    capture.PatientOrientation = None  # type 2C (PS3.3 C.7.6.1): unknown
    capture.InstanceCreationDate = capture.ContentDate = capture.SeriesDate = f"{now:%Y%m%d}"
    capture.InstanceCreationTime = capture.ContentTime = capture.SeriesTime = f"{now:%H%M%S}"
    equipped = writer(installation)
    capture.Manufacturer = capture.SecondaryCaptureDeviceManufacturer = equipped["manufacturer"]
    capture.ManufacturerModelName = equipped["manufacturer_model_name"]
    capture.SoftwareVersions = equipped["software_versions"]
    capture.DeviceSerialNumber = equipped["device_serial_number"]
    capture.ContributingEquipmentSequence = equipment(algorithms)


def _refer(capture: Dataset, source: Source, pictures: Pictures) -> None:
    image = Dataset()
    image.ReferencedSOPClassUID = referenced_class(source)
    image.ReferencedSOPInstanceUID = source.instance.sop_instance_uid
    if source.facts.number_of_frames > 1:
        image.ReferencedFrameNumber = list(pictures.frames)
    purpose = dicom_codes.DCM.SourceImageForImageProcessingOperation
    image.PurposeOfReferenceCodeSequence = [_code(purpose.value, purpose.meaning)]
    capture.SourceImageSequence = [image]
    capture.DerivationDescription = _DERIVATION


def _describe_pixels(capture: Dataset, source: Source, pictures: Pictures) -> None:
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "YBR_FULL_422" if pictures.is_cine else "RGB"
    capture.PlanarConfiguration = 0
    capture.Rows, capture.Columns = pictures.rows, pictures.columns
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    capture.BurnedInAnnotation = "YES"
    for keyword, value in source.compression.items():
        setattr(capture, keyword, value)
    codes = [picture.code for picture in pictures.drawn]
    if not pictures.is_cine:
        capture.PixelData = codes[0] + b"\0" * (len(codes[0]) % 2)
        return
    capture.PixelData = encapsulate(codes)
    capture["PixelData"].is_undefined_length = True
    _tell_loss(capture, source, codes, 3 * pictures.rows * pictures.columns)


def _tell_loss(capture: Dataset, source: Source, codes: Sequence[bytes], raw_bytes: int) -> None:
    """Add this compression to those that the source tells of."""
    ratio = f"{raw_bytes * len(codes) / sum(map(len, codes)):.1f}"
    before = source.compression.get("LossyImageCompressionRatio", "")
    methods = source.compression.get("LossyImageCompressionMethod", "")
    told = before and methods and before.count("\\") == methods.count("\\")
    capture.LossyImageCompression = "01"
    capture.LossyImageCompressionRatio = f"{before}\\{ratio}" if told else ratio
    capture.LossyImageCompressionMethod = f"{methods}\\ISO_10918_1" if told else "ISO_10918_1"


def _describe_cine(capture: Dataset, source: Source, pictures: Pictures) -> None:
    capture.NumberOfFrames = len(pictures.frames)
    capture.FrameIncrementPointer = Tag("FrameTime")
    step = (pictures.frames[-1] - pictures.frames[0]) / (len(pictures.frames) - 1)
    capture.FrameTime = f"{min(_frame_time_ms(source) * step, _LONGEST_FRAME_MS):.3f}"


def _frame_time_ms(source: Source) -> float:
    try:
        value = float(text(read_header(source.instance.path, ("FrameTime",)), "FrameTime"))
    except (UnreadableError, ValueError):
        return _FRAME_TIME_MS
    return value if 1 <= value <= _LONGEST_FRAME_MS else _FRAME_TIME_MS


def _code(value: str, meaning: str) -> Dataset:
    return concept(CodedConcept(value=value, scheme="DCM", meaning=meaning))
