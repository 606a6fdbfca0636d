"""What OHIF shows of results that a running node delivered to an Orthanc."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.demo.ports import free_port
from dicom_node.phantom.study import StudySpec, ViewSpec, write_study
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Task
from tests.support.ohif import CACHE, VERSION, ohif
from tests.support.orthanc import Orthanc, orthanc
from tests.support.seen import Seen, through_a_node

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
pytest.importorskip("playwright", reason="needs the test group: make test installs it")
from tests.support.radiologist import Drawing, Radiologist, radiologist
from tests.support.remembering import memory_of, write_remembering

pytestmark = [
    pytest.mark.viewers,
    pytest.mark.dimse,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

Place = TypeVar("Place")
PICTURES = Path(__file__).resolve().parents[2] / "build" / "viewers"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
KINDS = ("still", "cine")
#: Of the phantoms, the view quality.
SCORES = {"still": 4, "cine": 3}
#: Nothing is found in these frames of the phantom's cine: who counts from 0 is found out.
EMPTY_FRAMES = (1, 4)
#: Drawn masks have an outline as well, and the image is not shown in its own size.
LEAST_OVERLAP = 0.9
#: Of 255; what a mask changes at least.
LEAST_CHANGE = 8.0


@pytest.fixture(scope="module")
def chromium(needs_program: Callable[[str], str]) -> str:
    return needs_program("chromium")


@pytest.fixture(scope="module")
def pages(chromium: str) -> Path:
    """OHIF's pages; the network is not asked from inside a test."""
    pages = CACHE / "dist"
    if not pages.is_dir():
        pytest.skip(f"OHIF {VERSION} is missing: make viewers fetches it with npm")
    return pages


@pytest.fixture(scope="module")
def pacs(
    pages: Path, tmp_path_factory: pytest.TempPathFactory, needs_program: Callable[[str], str]
) -> Iterator[Orthanc]:
    program = needs_program("Orthanc")
    if not PLUGIN.exists():
        pytest.skip("Orthanc speaks no DICOMweb: apt-get install orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("pacs")
    with orthanc(program, folder, free_port, node_port=1, plugins=[PLUGIN]) as running:
        yield running


@pytest.fixture(scope="module")
def phantoms(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """A still and a cine of one series."""
    folder = tmp_path_factory.mktemp("phantoms")
    views = (ViewSpec(quality=SCORES["still"]), ViewSpec(quality=SCORES["cine"], frames=6))
    instances = write_study(folder / "sent", StudySpec(seed=5, patient=1, views=views))
    memory = memory_of(instances, without=EMPTY_FRAMES)

    def put_bundles(into: Path) -> None:
        write_remembering(into / "segmentation.onnx", Task.SEGMENTATION, memory)
        write_remembering(into / "quality.onnx", Task.QUALITY, memory)

    seen = through_a_node(folder, [one.path for one in instances], pacs, put_bundles)
    return dict(zip(KINDS, seen, strict=True))


@pytest.fixture(scope="module")
def stills(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """Three stills of one series."""
    folder = tmp_path_factory.mktemp("stills")
    views = tuple(ViewSpec(quality=quality) for quality in (4, 2, 3))
    instances = write_study(folder / "sent", StudySpec(seed=6, patient=2, views=views))
    memory = memory_of(instances)

    def put_bundles(into: Path) -> None:
        write_remembering(into / "segmentation.onnx", Task.SEGMENTATION, memory)

    return through_a_node(folder, [one.path for one in instances], pacs, put_bundles)


@pytest.fixture(scope="module")
def viewer(chromium: str, pages: Path, pacs: Orthanc) -> Iterator[Radiologist]:
    with (
        ohif(pages, orthanc_port=pacs.http_port) as address,
        radiologist(chromium, address, PICTURES) as someone,
    ):
        yield someone


@pytest.mark.parametrize("kind", KINDS)
def test_a_segmentation_is_drawn_on_its_own_frames_where_the_mask_is(
    viewer: Radiologist, phantoms: dict[str, Seen], kind: str
) -> None:
    seen = phantoms[kind]
    if kind == "cine":
        assert {*seen.label_maps()} == {2, 3, 5, 6}
    open_segmentation(viewer, seen)
    viewer.photograph(f"phantom-{kind}-segmentation")
    assert_drawn(viewer, seen, range(1, seen.number_of_frames + 1))
    assert viewer.complaints == []


def test_one_segmentation_is_drawn_on_every_still_of_its_series(
    viewer: Radiologist, stills: list[Seen]
) -> None:
    assert len({seen.segmentation_series for seen in stills}) == 1
    open_segmentation(viewer, stills[0])
    masks = {str(seen.image.SOPInstanceUID): seen.label_maps()[1] for seen in stills}
    held = {uid: labels for (uid, _), labels in viewer.label_maps().items() if labels.any()}
    assert {*held} == {*masks}
    images = {uid: decoded(seen)[1] for uid, seen in zip(masks, stills, strict=True)}
    for uid, mask in masks.items():
        np.testing.assert_array_equal(held[uid], mask, err_msg=uid)
        viewer.go_to_image(uid)
        drawing = viewer.drawing(*mask.shape)
        assert most_similar(drawing, images) == uid
        assert overlap(drawing, mask) >= LEAST_OVERLAP
    viewer.photograph("phantom-stills-segmentation")
    assert viewer.complaints == []


def test_the_report_of_a_cine_shows_its_score_on_the_image(
    viewer: Radiologist, phantoms: dict[str, Seen]
) -> None:
    seen = phantoms["cine"]
    viewer.open(seen.study, seen.report_series)
    words = viewer.read("View quality score")
    viewer.photograph("phantom-cine-report")
    assert f"View quality score: {SCORES['cine']}.00" in words
    assert "Probability: 0.90" in words
    assert viewer.complaints == []


def open_segmentation(viewer: Radiologist, seen: Seen) -> None:
    viewer.open(seen.study, seen.segmentation_series)
    viewer.accept_segmentation()


def assert_drawn(viewer: Radiologist, seen: Seen, frames: Iterable[int]) -> None:
    """Compare what cornerstone holds, and what is on the screen, with the SEG and the image."""
    masks = seen.label_maps()
    held = {n: labels for (_, n), labels in viewer.label_maps().items() if labels.any()}
    assert {*held} == {*masks}
    for frame, mask in masks.items():
        np.testing.assert_array_equal(held[frame], mask, err_msg=f"frame {frame}")
    images = decoded(seen)
    for frame in frames:
        viewer.go_to(frame)
        drawing = viewer.drawing(*images[frame].shape)
        assert most_similar(drawing, images) == frame
        assert overlap(drawing, masks.get(frame)) >= LEAST_OVERLAP, f"frame {frame}"


def decoded(seen: Seen) -> dict[int, NDArray[np.uint8]]:
    with PixelSandbox(memory_mib=768, timeout_s=60) as sandbox:
        return dict(sandbox.frames(seen.path, range(1, seen.number_of_frames + 1)))


def most_similar(drawing: Drawing, images: Mapping[Place, NDArray[np.uint8]]) -> Place:
    """Return which frame or still is on the screen: the one that correlates best with it."""
    visible = ~np.isnan(drawing.image)
    shown = drawing.image[visible]
    return max(images, key=lambda place: np.corrcoef(shown, images[place][visible])[0, 1])


def overlap(drawing: Drawing, mask: NDArray[np.uint8] | None) -> float:
    """Return Dice of the mask and of what it changes on the screen; 1 where both are empty."""
    visible = ~np.isnan(drawing.change)
    changed = drawing.change[visible] >= LEAST_CHANGE
    wanted = np.zeros_like(changed) if mask is None else mask[visible] > 0
    sizes = int(changed.sum() + wanted.sum())
    return 2 * int((changed & wanted).sum()) / sizes if sizes else 1.0
