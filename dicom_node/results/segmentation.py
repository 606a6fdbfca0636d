"""A label map as DICOM Segmentation (PS3.3 A.51).

BINARY and uncompressed, because that is what viewers and archives read; a label map is uncompressed
too, as every archive that takes the class can pass it on.
"""

from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.codes import ARTIFICIAL_INTELLIGENCE
from dicom_node.errors import ResultError
from dicom_node.forms import SegmentationForm, kind_in_uids
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
from dicom_node.results.planes import lay_out, settle
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

_SERIES_NUMBER: Final = 9001
_NO_SEGMENT: Final = -1
#: In the order of the segments, far apart and readable on grey; OHIF warns where there are none.
_COLORS: Final = tuple(
    hd.color.CIELabColor.from_rgb(*rgb)
    for rgb in ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
)
_LOSSY: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}


def segmentation_uid(
    source: Source, segmentation: Segmentation, edition: Edition, form: SegmentationForm
) -> str:
    """Return the SOP Instance UID of a segmentation's SEG.

    It follows from the image and its bytes, the model, the version, and the form.
    """
    image, digest = source.instance, segmentation.algorithm.digest
    kind, version = kind_in_uids("seg", form), edition.word
    return derived_uid(kind, image.sop_instance_uid, image.sha256, digest, version)


def segmentation_series_uid(source: Source, model: str, form: SegmentationForm) -> str:
    """Return the series of what one model says of an image in one form, version after version."""
    kind = kind_in_uids("seg", form)
    return derived_uid("series", kind, source.instance.sop_instance_uid, model)


def stills_series_uid(source: Source, model: str, form: SegmentationForm) -> str:
    """Return the series of what one model says of all stills of a series and of a size."""
    image, size = source.instance, f"{source.facts.rows}x{source.facts.columns}"
    kind = f"{kind_in_uids('seg', form)} of stills"
    return derived_uid(
        "series", kind, image.study_instance_uid, image.series_instance_uid, size, model
    )


def build_segmentation(
    source: Source,
    segmentation: Segmentation,
    installation: Installation,
    *,
    edition: Edition,
    series_instance_uid: str,
    form: SegmentationForm,
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
    form : SegmentationForm
        Its geometry and encoding.

    Raises
    ------
    ResultError
        When the label maps do not fit the image.
    """
    labels = segment_numbers(source.facts, segmentation)  # (N, R, C)
    image = stand_in(source)
    _tell_compression(image, source)
    lay_out(image, source, segmentation.frames, form)
    version = f" v{edition.version}" if edition.version > 1 else ""
    seg = hd.seg.Segmentation(
        source_images=[image],
        pixel_array=labels,
        segmentation_type="LABELMAP" if form is SegmentationForm.LABELMAP else "BINARY",
        segment_descriptions=_descriptions(segmentation),
        series_instance_uid=series_instance_uid,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=segmentation_uid(source, segmentation, edition, form),
        instance_number=edition.version,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=series_description("segmentation", [segmentation.algorithm], source),
        content_description=f"AI segmentation{version}{_nominal(source)}",
        content_creator_name="AI^dicom-node",
        contributing_equipment=equipment([segmentation.algorithm]),
        specific_character_set=UNICODE,
        **writer(installation),
    )
    settle(seg, source, segmentation.frames, form)
    seg.PatientOrientation = None  # type 2C (PS3.3 C.7.6.1): unknown
    _name_dimensions(seg)
    finish(seg, source)
    return seg


def _name_dimensions(seg: Dataset) -> None:
    """Give the dimensions a UID that a retry gives again; highdicom draws one by chance."""
    uid = derived_uid("dimensions", seg.SOPInstanceUID)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


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
    count = len(segmentation.segments)
    in_order = [segment.value for segment in segmentation.segments] == [*range(1, count + 1)]
    if in_order and labels.max(initial=0) <= count:
        return labels  # as most models number them; a long cine is not searched for nothing
    number_of = np.full(256, _NO_SEGMENT)
    number_of[0] = 0
    for number, segment in enumerate(segmentation.segments, 1):
        number_of[segment.value] = number
    values = np.array(sorted({value for plane in labels for value in _values(plane)}), dtype=int)
    if (number_of[values] == _NO_SEGMENT).any():
        raise ResultError("the label map holds values that no segment of the model has")
    return number_of.astype(np.uint8)[labels]


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


def _nominal(source: Source) -> str:
    """Say why the spacing is that of no image, "" where it is."""
    if source.facts.spacing_mm:
        return ""
    differ = len({still.facts.spacing_mm for still in source.stills}) > 1
    return f", {'spacings differ' if differ else 'not calibrated'}: 1 mm pixels are nominal"


def _tell_compression(image: Dataset, source: Source) -> None:
    for keyword, value in compression_of(source).items():
        setattr(image, keyword, value)


def compression_of(source: Source) -> dict[str, str]:
    """Return what to say of loss in the source's pixels, also where its header is silent."""
    method = _LOSSY.get(source.instance.transfer_syntax_uid)
    silent = {"LossyImageCompressionMethod": method} if method else {}
    lossy = {"LossyImageCompression": "01"} if method else {}
    return silent | dict(source.compression) | lossy
