"""What the models said of one image, as a presentation state (PS3.3 A.33.1, A.33.2).

A workstation draws it over the image itself: nothing is copied and nothing is burnt in. Each
segment has a layer of its own that the reader may switch off.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import highdicom as hd
from highdicom import pr
from PIL import ImageCms
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.header import BROKEN_BYTES, read_header
from dicom_node.records import Analysis, Edition, Instance, ResultKind
from dicom_node.results.installation import Installation
from dicom_node.results.overlay import (
    Layer,
    Outline,
    frames_of_models,
    layers_of,
    lines_of,
    outlines,
    overlay_series_uid,
    overlay_uid,
)
from dicom_node.results.parts import (
    UNICODE,
    equipment,
    finish,
    series_description,
    shortened,
    stand_in,
    writer,
)
from dicom_node.results.report import algorithms_of
from dicom_node.results.source import Source, odd_values_allowed

GRAYSCALE: Final = "1.2.840.10008.5.1.4.1.1.11.1"
COLOR: Final = "1.2.840.10008.5.1.4.1.1.11.2"
_SERIES_NUMBER: Final = 9003
WORDS_LAYER: Final = "WORDS"
#: Text stands in the lower left corner, where scanners write least; heights are of the display.
_LEFT, _RIGHT, _BOTTOM, _LINE_HEIGHT = 0.02, 0.7, 0.98, 0.035
#: UnformattedTextValue (0070,0006) is an ST.
_TEXT_LENGTH: Final = 1024
_LOOK: Final = ("SamplesPerPixel", "PhotometricInterpretation")
#: A grey image is shown with its own window; without these the reader would see another picture.
_GREY_SCALE: Final = ("RescaleIntercept", "RescaleSlope", "WindowCenter", "WindowWidth")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What stands on one layer of one frame."""

    #: GraphicLayer (0070,0002)
    layer: str
    #: as in Referenced Frame Number (0008,1160); None in a still, and where all frames are meant
    frame: int | None
    outlines: tuple[Outline, ...] = ()
    text: str = ""


def presentation_class(instance: Instance) -> str:
    """Return the SOP class that fits the image: one for grey and palettes, one for colour.

    Raises
    ------
    UnreadableError
        When its header cannot be read.
    """
    with odd_values_allowed():
        header = read_header(instance.path, _LOOK)
        return COLOR if _number(header, "SamplesPerPixel") == 3 else GRAYSCALE


def drawings(analysis: Analysis, edition: Edition) -> Iterator[Drawing]:
    """Return everything that is drawn, frame by frame."""
    layers = layers_of(analysis)
    cine = analysis.facts.number_of_frames > 1
    spoke = bool(analysis.segmentations or analysis.qualities)
    for frame in frames_of_models(analysis):
        number = frame if cine and spoke else None
        for index, layer in enumerate(layers):
            mask = layer.mask(frame)
            if mask is not None:
                found = tuple(outlines(mask))
                yield Drawing(layer=_layer_name(index), frame=number, outlines=found)
        lines = [line.text for line in lines_of(analysis, edition, frame)]
        yield Drawing(
            layer=WORDS_LAYER, frame=number, text="\r\n".join(lines)[:_TEXT_LENGTH].rstrip()
        )


def build_presentation(
    source: Source, analysis: Analysis, installation: Installation, *, edition: Edition
) -> Dataset:
    """Write an analysis as a presentation state.

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
    """
    image = _stand_in(source)
    layers = _graphic_layers(layers_of(analysis))
    algorithms = algorithms_of(analysis)
    colour = image.SamplesPerPixel == 3
    make = pr.ColorSoftcopyPresentationState if colour else pr.GrayscaleSoftcopyPresentationState
    state = make(
        referenced_images=[image],
        series_instance_uid=overlay_series_uid(ResultKind.PR, analysis),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=overlay_uid(ResultKind.PR, analysis, edition),
        instance_number=edition.version,
        content_label="AI_RESULT",
        content_description=shortened("AI result: outlines and scores, not verified"),
        content_creator_name="AI^dicom-node",
        graphic_layers=list(layers.values()),
        graphic_annotations=[
            _annotation(drawing, image, layers[drawing.layer])
            for drawing in drawings(analysis, edition)
        ],
        series_description=series_description("overlay", algorithms, source),
        contributing_equipment=equipment(algorithms),
        specific_character_set=UNICODE,
        **_rendering(image, colour=colour),
        **writer(installation),
    )
    # type 2C (PS3.3 C.7.3.1): nobody says whether the body part is paired
    state.Laterality = None
    finish(state, source)
    return state


def _stand_in(source: Source) -> Dataset:
    """Return the header that highdicom needs: with colours, and frames as Enhanced images have."""
    image = stand_in(source)
    header = read_header(source.instance.path, (*_LOOK, *_GREY_SCALE))
    image.SamplesPerPixel = 3 if _number(header, "SamplesPerPixel") == 3 else 1
    if image.SamplesPerPixel == 1:
        image.PhotometricInterpretation = str(header.get("PhotometricInterpretation", ""))
        values = {keyword: _number(header, keyword) for keyword in _GREY_SCALE}
        for pair in (_GREY_SCALE[:2], _GREY_SCALE[2:]):
            if all(values[keyword] is not None for keyword in pair):
                for keyword in pair:
                    setattr(image, keyword, values[keyword])
    if source.facts.number_of_frames > 1:
        image.NumberOfFrames = source.facts.number_of_frames
        image.SharedFunctionalGroupsSequence = [Dataset()]
        image.PerFrameFunctionalGroupsSequence = [Dataset()] * source.facts.number_of_frames
    return image


def _rendering(image: Dataset, *, colour: bool) -> dict[str, Any]:
    if colour:
        profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        profile[12:16] = b"scnr"  # PS3.3 C.11.15: of an input device, where Pillow says display
        return {"icc_profile": bytes(profile)}
    inverted = image.PhotometricInterpretation == "MONOCHROME1"
    shape = "INVERSE" if inverted else "IDENTITY"
    return {"presentation_lut_transformation": hd.PresentationLUTTransformation(shape)}


def _graphic_layers(layers: list[Layer]) -> dict[str, pr.GraphicLayer]:
    made = {}
    for index, layer in enumerate(layers):
        model = layer.segmentation.algorithm.name
        made[_layer_name(index)] = pr.GraphicLayer(
            layer_name=_layer_name(index),
            order=index + 1,
            description=shortened(f"{layer.segment.type.meaning} ({model})"),
            display_color=hd.color.CIELabColor.from_rgb(*layer.colour),
        )
    made[WORDS_LAYER] = pr.GraphicLayer(
        layer_name=WORDS_LAYER,
        order=len(layers) + 1,
        description="What the models said",
        display_color=hd.color.CIELabColor.from_rgb(255, 255, 255),
    )
    return made


def _annotation(drawing: Drawing, image: Dataset, layer: pr.GraphicLayer) -> pr.GraphicAnnotation:
    graphics = [pr.GraphicObject("POLYLINE", points, "PIXEL") for points in drawing.outlines]
    texts = []
    if drawing.text:
        top = max(_LEFT, _BOTTOM - _LINE_HEIGHT * len(drawing.text.splitlines()))
        texts = [
            pr.TextObject(
                drawing.text,
                "DISPLAY",
                bounding_box=(_LEFT, top, _RIGHT, _BOTTOM),
                text_justification="LEFT",
            )
        ]
    return pr.GraphicAnnotation(
        [image],
        layer,
        referenced_frame_number=drawing.frame,
        graphic_objects=graphics or None,
        text_objects=texts or None,
    )


def _layer_name(index: int) -> str:
    return f"SEGMENT_{index + 1}"


def _number(header: Dataset, keyword: str) -> float | None:
    """Return the first value of a number, None where there is none."""
    try:
        value = header.get(keyword)
        first = value[0] if isinstance(value, MultiValue) else value
        return None if first in (None, "") else float(first)
    except BROKEN_BYTES:
        return None
