"""The demo's page: what went in, what came back, read from the objects that the PACS received."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.seg import Segmentation, segread
from highdicom.sr import MeasurementReport, srread
from jinja2 import Environment, PackageLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.codes import PROBABILITY, QUALITATIVE_EVALUATIONS, VIEW_QUALITY
from dicom_node.pixels.sandbox import PixelSandbox

#: Colour of each segment number in overlays (red, green, blue).
COLOURS = {1: (255, 122, 69), 2: (64, 169, 255), 3: (115, 209, 61)}
OPACITY = 0.45
#: Frames of a cine whose scores are written out.
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An image that was sent to the running models."""

    path: Path
    title: str
    #: whether a phantom or a real file
    phantom: bool


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image on the page."""

    title: str
    phantom: bool
    picture: str
    overlay: str | None
    segments: tuple[str, ...]
    report: tuple[str, ...]


def write_page(
    sent: Sequence[Sent], received: Path, folder: Path, *, totals: Iterable[tuple[str, str]]
) -> Path:
    """Write ``index.html`` and its pictures.

    Parameters
    ----------
    sent : sequence of Sent
        The images, in the order of the page.
    received : Path
        Folder of the SEG and SR that came back.
    folder : Path
        Where the page goes; pictures go to ``folder/pictures``.
    totals : iterable of (str, str)
        The table at the top.

    Returns
    -------
    Path
        The page.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    segs, srs = _by_source(received)
    with PixelSandbox(memory_mib=768, timeout_s=60) as sandbox:
        cards = [_card(image, segs, srs, folder=folder, sandbox=sandbox) for image in sent]
    environment = Environment(
        loader=PackageLoader("dicom_node.demo", "."), autoescape=select_autoescape(default=True)
    )
    page = folder / "index.html"
    template = environment.get_template("page.html.j2")
    page.write_text(template.render(cards=cards, totals=list(totals), colours=COLOURS), "utf-8")
    return page


def overlay(frame: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay segments over a frame.

    Parameters
    ----------
    frame : ndarray of uint8, shape (R, C)
        Grey.
    labels : ndarray of uint8, shape (R, C)
        Segment numbers, 0 = nothing.

    Returns
    -------
    ndarray of uint8, shape (R, C, 3)
    """
    picture = np.repeat(frame[..., None], 3, axis=-1).astype(np.float32)  # (R, C, 3)
    for number, colour in COLOURS.items():
        inside = labels == number
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.array(colour)
    return picture.astype(np.uint8)


def _by_source(received: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Received SEG and SR files by the SOP Instance UID of an image, the last version of each."""
    found: dict[str, dict[str, Path]] = {"SEG": {}, "SR": {}}
    headers = {path: dcmread(path, stop_before_pixels=True) for path in received.glob("*.dcm")}
    for path, header in sorted(headers.items(), key=lambda item: int(item[1].InstanceNumber)):
        for uid in _sources(header):
            found[header.Modality][uid] = path
    return found["SEG"], found["SR"]


def _sources(header: Dataset) -> list[str]:
    if header.Modality == "SEG":
        images = [
            image
            for series in header.ReferencedSeriesSequence
            for image in series.ReferencedInstanceSequence
        ]
    else:
        images = [
            image
            for study in header.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for image in series.ReferencedSOPSequence
        ]
    return [str(image.ReferencedSOPInstanceUID) for image in images]


def _card(
    image: Sent,
    segs: dict[str, Path],
    srs: dict[str, Path],
    *,
    folder: Path,
    sandbox: PixelSandbox,
) -> Card:
    uid = str(dcmread(image.path, stop_before_pixels=True).SOPInstanceUID)
    labels, number, names = _labels(segs.get(uid), uid)
    [(_, frame)] = sandbox.frames(image.path, [number])
    stem = f"pictures/{uid}"
    Image.fromarray(frame).save(folder / f"{stem}.png")
    shown = None
    if labels is not None:
        shown = f"{stem}-overlay.png"
        Image.fromarray(overlay(frame, labels)).save(folder / shown)
    report = _report(srs[uid]) if uid in srs else ("no report came back",)
    return Card(
        title=image.title,
        phantom=image.phantom,
        picture=f"{stem}.png",
        overlay=shown,
        segments=names,
        report=report,
    )


def _labels(path: Path | None, uid: str) -> tuple[NDArray[np.uint8] | None, int, tuple[str, ...]]:
    """Label map of the middle segmented frame, its number, and the segments' names."""
    if path is None:
        return None, 1, ()
    seg: Segmentation = segread(path)
    frames = sorted(
        {
            int(source.ReferencedFrameNumber)
            for group in seg.PerFrameFunctionalGroupsSequence
            for derivation in group.DerivationImageSequence
            for source in derivation.SourceImageSequence
            if "ReferencedFrameNumber" in source  # a still has none
        }
    )
    how: dict[str, Any] = {"ignore_spatial_locations": True, "combine_segments": True}
    if frames:
        number = frames[len(frames) // 2]
        planes = seg.get_pixels_by_source_frame(uid, [number], **how)
    else:
        number = 1
        planes = seg.get_pixels_by_source_instance([uid], **how)
    names = tuple(
        str(seg.get_segment_description(n).segment_label)
        for n in range(1, seg.number_of_segments + 1)
    )
    return planes[0].astype(np.uint8), number, names


def _report(path: Path) -> tuple[str, ...]:
    """Return what a report says: its summary, then one line for each scored frame."""
    content = srread(path).content
    if not isinstance(content, MeasurementReport):
        return ("not a measurement report",)
    summary = [
        item.TextValue if item.ValueType == "TEXT" else item.ConceptCodeSequence[0].CodeMeaning
        for container in content[0].ContentSequence
        if container.ConceptNameCodeSequence[0].CodeValue == QUALITATIVE_EVALUATIONS.value
        for item in container.ContentSequence
    ]
    scores = []
    for group in content.get_planar_roi_measurement_groups():
        values = {m.name.value: m.value for m in group.get_measurements()}
        if VIEW_QUALITY.value in values:
            frame = (group.tracking_identifier or "").rpartition(", ")[2]
            sure = f"probability {values[PROBABILITY.value]:.2f}"
            scores.append(f"{frame}: view quality {values[VIEW_QUALITY.value]:g} of 4, {sure}")
    more = [f"and {len(scores) - SHOWN} more frames"] if len(scores) > SHOWN else []
    return (*summary, *scores[:SHOWN], *more)
