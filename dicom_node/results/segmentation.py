"""A label map as DICOM Segmentation (PS3.3 A.51).

BINARY and uncompressed, because that is what viewers and archives read. Ultrasound has no frame of
reference: highdicom refuses its cines, and OHIF goes blank on a SEG without Plane Orientation and
Pixel Measures. So the cine is written through a stand-in with an invented stack of planes, whose
positions are removed again; orientation and spacing stay, as in a still.
"""

from copy import deepcopy
from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.codes import ARTIFICIAL_INTELLIGENCE
from dicom_node.errors import ResultError
from dicom_node.records import Algorithm, Edition, ImageFacts, Segment, Segmentation
from dicom_node.results.installation import Installation
from dicom_node.results.parts import (
    UNICODE,
    check_frames,
    concept,
    equipment,
    finish,
    series_description,
    shortened,
    stand_in,
    writer,
)
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

_SERIES_NUMBER: Final = 9001
_NO_SEGMENT: Final = -1
_ORIENTATION: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: In the order of the segments, far apart and readable on grey; OHIF warns where there are none.
_COLORS: Final = tuple(
    hd.color.CIELabColor.from_rgb(*rgb)
    for rgb in ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
)
#: Written where the scanner calibrated nothing; Content Description says so.
_NOMINAL_SPACING_MM: Final = (1.0, 1.0)
_LOSSY: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}


def segmentation_uid(source: Source, segmentation: Segmentation, edition: Edition) -> str:
    """Return the SOP Instance UID of a segmentation's SEG.

    It follows from the image and its bytes, the model, and the version.
    """
    image, digest = source.instance, segmentation.algorithm.digest
    return derived_uid("seg", image.sop_instance_uid, image.sha256, digest, str(edition.version))


def segmentation_series_uid(source: Source, model: str) -> str:
    """Return the series of everything that one model says of an image, version after version."""
    return derived_uid("series", "seg", source.instance.sop_instance_uid, model)


def build_segmentation(
    source: Source,
    segmentation: Segmentation,
    installation: Installation,
    *,
    edition: Edition,
    series_instance_uid: str,
) -> Dataset:
    """Write a label map as a SEG.

    Parameters
    ----------
    source : Source
        The image.
    segmentation : Segmentation
        Label maps of some or all of its frames; not empty.
    installation : Installation
        Who writes.
    edition : Edition
        Which version it is; a later one stands in the same series under a higher Instance Number.
    series_instance_uid : str
        Of `segmentation_series_uid`.

    Raises
    ------
    ResultError
        When the label maps do not fit the image.
    """
    labels = segment_numbers(source.facts, segmentation)  # (N, R, C)
    image = stand_in(source)
    _tell_compression(image, source)
    cine = source.facts.number_of_frames > 1
    if cine:
        _stack_planes(image, source.facts, len(segmentation.frames))
    version = f" v{edition.version}" if edition.version > 1 else ""
    calibrated = "" if source.facts.spacing_mm else ", not calibrated: 1 mm pixels are nominal"
    seg = hd.seg.Segmentation(
        source_images=[image],
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(segmentation),
        series_instance_uid=series_instance_uid,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=segmentation_uid(source, segmentation, edition),
        instance_number=edition.version,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=series_description("segmentation", [segmentation.algorithm], source),
        content_description=f"AI segmentation{version}{calibrated}",
        content_creator_name="AI^dicom-node",
        contributing_equipment=equipment([segmentation.algorithm]),
        specific_character_set=UNICODE,
        **writer(installation),
    )
    if cine:
        _unstack_planes(seg, segmentation.frames)
    else:
        _place_still(seg, source.facts)
    seg.PatientOrientation = None  # type 2C (PS3.3 C.7.6.1): unknown
    finish(seg, source)
    return seg


def segment_numbers(facts: ImageFacts, segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the label maps with Segment Number (0062,0004) in place of label values.

    Returns
    -------
    ndarray of uint8, shape (N, R, C)
        1 to K in the order of ``segmentation.segments``, 0 is background.

    Raises
    ------
    ResultError
        When shape, frame numbers or values do not fit: highdicom drops planes without a word.
    """
    labels, frames = segmentation.label_map, segmentation.frames
    expected = (len(frames), facts.rows, facts.columns)
    if labels.dtype != np.uint8 or labels.shape != expected:
        raise ResultError(f"label map {labels.dtype} {labels.shape} must be uint8 {expected}")
    check_frames(frames, facts)
    number_of = np.full(256, _NO_SEGMENT)
    number_of[0] = 0
    for number, segment in enumerate(segmentation.segments, 1):
        number_of[segment.value] = number
    values = np.array(sorted({value for plane in labels for value in _values(plane)}), dtype=int)
    if (number_of[values] == _NO_SEGMENT).any():
        raise ResultError("the label map holds values that no segment of the model has")
    # most models number their labels so, and a long cine is not copied for nothing
    return labels if (number_of[values] == values).all() else number_of.astype(np.uint8)[labels]


def _values(plane: NDArray[np.uint8]) -> list[int]:
    return np.flatnonzero(np.bincount(plane.ravel(), minlength=256)).tolist()


def _descriptions(segmentation: Segmentation) -> list[hd.seg.SegmentDescription]:
    return [
        _description(number, segment, segmentation.algorithm)
        for number, segment in enumerate(segmentation.segments, 1)
    ]


def _description(number: int, segment: Segment, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        display_color=_COLORS[(number - 1) % len(_COLORS)],
        segment_label=shortened(segment.type.meaning),
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=shortened(algorithm.name),
            family=concept(ARTIFICIAL_INTELLIGENCE),
            version=shortened(algorithm.version),
            source=shortened(algorithm.manufacturer),
            parameters={"sha256": algorithm.digest},
        ),
    )


def _tell_compression(image: Dataset, source: Source) -> None:
    """Say that the source's pixels were compressed with loss, also where its header is silent."""
    for keyword, value in source.compression.items():
        setattr(image, keyword, value)
    method = _LOSSY.get(source.instance.transfer_syntax_uid)
    if method:
        image.LossyImageCompression = "01"
        if "LossyImageCompressionMethod" not in image:
            image.LossyImageCompressionMethod = method


def _stack_planes(image: Dataset, facts: ImageFacts, planes: int) -> None:
    """Invent the geometry that highdicom needs of a multi-frame image.

    It sorts planes along the negative normal, hence the descending positions.
    """
    image.NumberOfFrames = planes
    image.FrameOfReferenceUID = hd.UID()
    shared = Dataset()
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", _ORIENTATION)
    shared.PixelMeasuresSequence = _pixel_measures(facts)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_plane(index) for index in range(planes)]


def _plane(index: int) -> Dataset:
    plane = Dataset()
    plane.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", (0.0, 0.0, -float(index)))
    return plane


def _unstack_planes(seg: Dataset, frames: tuple[int, ...]) -> None:
    """Put time in the place of the invented positions, and the true frame numbers in references."""
    del seg.FrameOfReferenceUID
    for keyword in ("PositionReferenceIndicator", "DimensionOrganizationType"):
        if keyword in seg:
            delattr(seg, keyword)
    for item in seg.DimensionIndexSequence:
        if item.DimensionIndexPointer == Tag("ImagePositionPatient"):
            item.DimensionIndexPointer = Tag("TemporalPositionIndex")
            item.FunctionalGroupPointer = Tag("FrameContentSequence")
            item.DimensionDescriptionLabel = "Temporal Position Index"
    shared = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in shared:
        del shared.SpacingBetweenSlices
    for item in seg.PerFrameFunctionalGroupsSequence:
        _refer_to_frame(item, frames)


def _refer_to_frame(item: Dataset, frames: tuple[int, ...]) -> None:
    # highdicom shares one source item between the segments of a plane
    item.DerivationImageSequence = deepcopy(item.DerivationImageSequence)
    reference = item.DerivationImageSequence[0].SourceImageSequence[0]
    frame = frames[int(reference.ReferencedFrameNumber) - 1]
    reference.ReferencedFrameNumber = frame
    if "PlanePositionSequence" in item:
        del item.PlanePositionSequence
    content = item.FrameContentSequence[0]
    content.TemporalPositionIndex = frame
    content.DimensionIndexValues = [*content.DimensionIndexValues[:-1], frame]


def _place_still(seg: Dataset, facts: ImageFacts) -> None:
    shared = seg.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", _ORIENTATION)
    shared.PixelMeasuresSequence = _pixel_measures(facts)


def _pixel_measures(facts: ImageFacts) -> hd.PixelMeasuresSequence:
    return hd.PixelMeasuresSequence(
        pixel_spacing=facts.spacing_mm or _NOMINAL_SPACING_MM,
        slice_thickness=1.0,  # highdicom cannot read its own file without one
    )
