"""Images and what a node said of them, sent into a PACS for viewers to show."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.seg import segread
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.demo.ports import free_port
from dicom_node.outbox import DeliveryState
from tests.support.nodes import Node, node_on, send, until
from tests.support.orthanc import Orthanc


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An image and its results, as they lie in the PACS; headers without pixels."""

    path: Path
    image: Dataset
    segmentation: Path
    report: Path

    @property
    def study(self) -> str:
        return str(self.image.StudyInstanceUID)

    @property
    def segmentation_series(self) -> str:
        return _series(self.segmentation)

    @property
    def report_series(self) -> str:
        return _series(self.report)

    @property
    def number_of_frames(self) -> int:
        return int(self.image.get("NumberOfFrames", 1))

    def label_maps(self) -> dict[int, NDArray[np.uint8]]:
        """Return Segment Number (0062,0004) by pixel for each frame in which anything is."""
        seg = segread(self.segmentation)
        source = str(self.image.SOPInstanceUID)
        frames = range(1, self.number_of_frames + 1)
        how = {"ignore_spatial_locations": True, "combine_segments": True}
        if len(frames) == 1:
            maps = seg.get_pixels_by_source_instance([source], **how)
        else:
            how["assert_missing_frames_are_empty"] = True
            maps = seg.get_pixels_by_source_frame(source, frames, **how)
        return {n: np.asarray(m, np.uint8) for n, m in zip(frames, maps, strict=True) if m.any()}


def through_a_node(
    folder: Path, files: list[Path], pacs: Orthanc, put_bundles: Callable[[Path], None]
) -> list[Seen]:
    """Put files into the PACS and through a node; return when the PACS has its results as well.

    Parameters
    ----------
    folder : Path
        The node's own.
    files : list of Path
        Ultrasound images in which the models find something.
    pacs : Orthanc
        Gets the files and the results.
    put_bundles : callable
        Writes the models into the folder that it is given.
    """
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    for file in files:
        pacs.upload(file)
    port = free_port()
    with node_on(folder, port, pacs.destination) as node:
        put_bundles(folder / "bundles")
        node.start()
        assert send(files, port) == [0] * len(files)
        studies = {str(header.StudyInstanceUID) for header in headers}
        until(lambda: node.finished(*studies) and _is_delivered(node), deadline_s=180, why=node.log)
        assert node.stop() == 0
    results = dict(_results(node))
    return [
        Seen(
            path=file,
            image=header,
            segmentation=results["SEG", str(header.SOPInstanceUID)],
            report=results["SR", str(header.SOPInstanceUID)],
        )
        for file, header in zip(files, headers, strict=True)
    ]


def _series(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID)


def _is_delivered(node: Node) -> bool:
    with node.outbox() as outbox:
        counts = outbox.counts()
    assert counts[DeliveryState.DEAD] == 0, node.log
    return counts[DeliveryState.WAITING] == 0


def _results(node: Node) -> Iterator[tuple[tuple[str, str], Path]]:
    """Yield (Modality, SOP Instance UID of an image) and the file of every result."""
    for path in node.layout.results.glob("*.dcm"):
        result = dcmread(path, stop_before_pixels=True)
        if result.Modality == "SEG":
            references = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        else:
            [study] = result.CurrentRequestedProcedureEvidenceSequence
            references = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        for reference in references:
            yield (str(result.Modality), str(reference.ReferencedSOPInstanceUID)), path
