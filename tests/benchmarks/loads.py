"""What is sent: made-up objects of the sizes that an ultrasound department sends."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
US_MULTIFRAME_IMAGE = "1.2.840.10008.5.1.4.1.1.3.1"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"

#: Stand where the sender writes each object's and each association's own UIDs of the same length.
SOP_INSTANCE_UID = "2.25.3" + "0" * 32
STUDY_INSTANCE_UID = "2.25.4" + "0" * 32
SERIES_INSTANCE_UID = "2.25.5" + "0" * 32
_STILL_ROWS, _STILL_COLUMNS = 400, 404
_CINE_ROWS, _CINE_COLUMNS, _CINE_FRAMES = 600, 800, 69


@dataclass(frozen=True, kw_only=True)
class Load:
    """Objects of one kind over a number of associations."""

    name: str
    title: str
    sop_class_uid: str
    #: of one data set
    size_bytes: int
    associations: int
    #: as many are sent in one measurement, unless its time is over before
    objects: int
    #: Nagle's algorithm left on and a write for each PDU, as DCMTK's storescu and many devices do
    is_naive: bool = False

    @property
    def unit(self) -> str:
        """Of a rate of this load."""
        return "MB/s" if self.size_bytes > 10_000_000 else "objects/s"

    def rate(self, objects: int, seconds: float) -> float:
        """Return a rate in `unit`."""
        each = self.size_bytes / 1e6 if self.unit == "MB/s" else 1.0
        return objects * each / seconds

    def data_set(self) -> bytearray:
        """Return an encoded data set (Explicit VR Little Endian) of exactly `size_bytes`."""
        return bytearray(_BUILDERS[self.sop_class_uid](self.size_bytes))


def _load(name: str, title: str, sop_class_uid: str, **values: int) -> Load:
    return Load(name=name, title=title, sop_class_uid=sop_class_uid, **values)  # type: ignore[arg-type]


_STILL = {"size_bytes": 486_008}
_SMALL = {"size_bytes": 6_008}
LOADS = (
    _load(
        "still-1", "0.5 MB stills, 1 association", US_IMAGE, associations=1, objects=800, **_STILL
    ),
    _load(
        "still-4", "0.5 MB stills, 4 associations", US_IMAGE, associations=4, objects=1200, **_STILL
    ),
    _load(
        "small-1",
        "6 KB reports, 1 association",
        COMPREHENSIVE_SR,
        associations=1,
        objects=2000,
        **_SMALL,
    ),
    _load(
        "small-4",
        "6 KB reports, 4 associations",
        COMPREHENSIVE_SR,
        associations=4,
        objects=4000,
        **_SMALL,
    ),
    _load(
        "naive-1",
        "6 KB reports, 1 association, Nagle's algorithm on",
        COMPREHENSIVE_SR,
        associations=1,
        objects=1000,
        is_naive=True,
        **_SMALL,
    ),
    _load(
        "cine-1",
        "100 MB cine, 1 association",
        US_MULTIFRAME_IMAGE,
        associations=1,
        objects=4,
        size_bytes=100_000_008,
    ),
)


def _still(size_bytes: int) -> bytes:
    return _encoded(_image(US_IMAGE, _STILL_ROWS, _STILL_COLUMNS, frames=1), size_bytes)


def _cine(size_bytes: int) -> bytes:
    image = _image(US_MULTIFRAME_IMAGE, _CINE_ROWS, _CINE_COLUMNS, frames=_CINE_FRAMES)
    image.NumberOfFrames = _CINE_FRAMES
    image.FrameTime = 50
    image.FrameIncrementPointer = 0x00181063
    return _encoded(image, size_bytes)


def _report(size_bytes: int) -> bytes:
    report = _object(COMPREHENSIVE_SR, "SR")
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    report.ConceptNameCodeSequence = [_code("126000", "DCM", "Imaging Measurement Report")]
    report.ContentSequence = [_finding(number) for number in range(12)]
    return _encoded(report, size_bytes)


def _finding(number: int) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [_code("121071", "DCM", "Finding")]
    item.TextValue = f"Finding {number + 1}: " + "made up for a benchmark. " * 8
    return item


def _image(sop_class_uid: str, rows: int, columns: int, *, frames: int) -> Dataset:
    image = _object(sop_class_uid, "US")
    image.Rows, image.Columns = rows, columns
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.ImageType = ["ORIGINAL", "PRIMARY", "ABDOMINAL"]
    image.TransducerData = ["C5-1", "", ""]
    image.BurnedInAnnotation = "NO"
    image.SequenceOfUltrasoundRegions = [_region(rows, columns)]
    speckle = np.random.default_rng(0).integers(0, 256, rows * columns, np.uint8)
    image.PixelData = np.repeat(speckle, 3).tobytes() * frames
    return image


def _region(rows: int, columns: int) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = columns - 20, rows - 20
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.03
    return region


def _object(sop_class_uid: str, modality: str) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class_uid, SOP_INSTANCE_UID
    made.StudyDate, made.ContentDate = "20260101", "20260101"
    made.StudyTime, made.ContentTime = "120000", "120000"
    made.AccessionNumber, made.ReferringPhysicianName = "", ""
    made.Modality, made.Manufacturer = modality, "made up"
    made.StudyDescription = "US ABDOMEN COMPLETE"
    made.PatientName, made.PatientID = "BENCH^MARK", "BENCHMARK"
    made.PatientBirthDate, made.PatientSex = "", ""
    made.StudyInstanceUID = STUDY_INSTANCE_UID
    made.SeriesInstanceUID = SERIES_INSTANCE_UID
    made.StudyID, made.SeriesNumber, made.InstanceNumber = "1", 1, 1
    return made


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _encoded(made: Dataset, size_bytes: int) -> bytes:
    """Encode, with Data Set Trailing Padding (FFFC,FFFC) up to the size."""
    encoded = _written(made)
    made.DataSetTrailingPadding = bytes(size_bytes - len(encoded) - 12)
    return _written(made)


def _written(made: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, made)
    return buffer.getvalue()


_BUILDERS = {US_IMAGE: _still, COMPREHENSIVE_SR: _report, US_MULTIFRAME_IMAGE: _cine}
