from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dicom_node.config import HarvestSettings
from dicom_node.harvest import open_harvester
from dicom_node.harvest.scan_area import scan_area
from dicom_node.pixels.decode import decode
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box
from tests.support.frames import instance_of, region_item, saved, ultrasound

ROWS, COLUMNS = 480, 640
#: Apex, radii and half the angle of the sector that is drawn.
APEX, RADIUS, HALF = (20, 320), (60, 420), 0.6
WORDS = "DOE^JANE  MRN 0815\n1970-01-31 12:00"


def _sector() -> np.ndarray:
    down, across = np.mgrid[:ROWS, :COLUMNS]
    radius = np.hypot(down - APEX[0], across - APEX[1])
    angle = np.arctan2(across - APEX[1], down - APEX[0])
    return (RADIUS[0] < radius) & (radius < RADIUS[1]) & (np.abs(angle) < HALF)


def _screen(inside: np.ndarray | None = None, *, at: tuple[int, int] | None = None) -> np.ndarray:
    """Return a picture of speckle, with words somewhere."""
    inside = _sector() if inside is None else inside
    speckle = np.random.default_rng(0).rayleigh(60, (ROWS, COLUMNS)).clip(20, 255)
    picture = Image.fromarray(np.where(inside, speckle, 0).astype(np.uint8))
    if at is not None:
        ImageDraw.Draw(picture).text(at, WORDS, fill=255, font_size=20)
    return np.array(picture)


def _box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    inside = np.zeros((ROWS, COLUMNS), np.bool_)
    inside[top:bottom, left:right] = True
    return inside


def test_a_sector_is_found_and_nothing_around_it_is_kept() -> None:
    area = scan_area(_screen(at=(4, 4)))
    assert area is not None
    found = np.zeros((ROWS, COLUMNS), np.bool_)
    found[area.box.slices] = area.inside
    sector = _sector()
    assert (found & sector).sum() > 0.85 * sector.sum()
    assert (found & ~sector).sum() < 0.02 * sector.sum()


@pytest.mark.parametrize("at", [(4, 4), (380, 4), (4, 400), (60, 100), (400, 430)])
def test_words_in_the_corners_of_a_sector_are_blanked(at: tuple[int, int]) -> None:
    area = scan_area(_screen(at=at))
    assert area is not None
    written = (_screen(at=at) != _screen()) & ~_sector()
    assert written.any()
    assert not written[area.box.slices][area.inside].any()


@pytest.mark.parametrize("left", [100, 180])
def test_words_that_touch_the_scan_are_cut_off(left: int) -> None:
    inside = _box(100, 100, 540, 400)
    picture = _screen(inside, at=(left, 58))
    area = scan_area(picture)
    assert area is not None
    assert area.box.top >= 96


def test_a_dark_cyst_belongs_to_the_scan() -> None:
    cyst = _box(280, 200, 360, 280)
    area = scan_area(_screen(_sector() & ~cyst))
    assert area is not None
    found = np.zeros((ROWS, COLUMNS), np.bool_)
    found[area.box.slices] = area.inside
    assert found[cyst].all()


def _form() -> np.ndarray:
    picture = Image.new("L", (COLUMNS, ROWS), 230)
    ImageDraw.Draw(picture).multiline_text((20, 20), "\n".join([WORDS] * 8), fill=0, font_size=24)
    return np.array(picture)


def _page_of_words() -> np.ndarray:
    picture = Image.new("L", (COLUMNS, ROWS))
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((0, 0), "\n".join([WORDS * 2] * 16), fill=255, font_size=16, spacing=0)
    return np.array(picture)


def _two_scans() -> np.ndarray:
    return _screen(_box(20, 100, 300, 400) | _box(340, 100, 620, 400))


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((ROWS, COLUMNS), np.uint8),
        np.full((ROWS, COLUMNS), 90, np.uint8),
        _form(),
        _page_of_words(),
        _two_scans(),
        _screen(_box(0, 0, COLUMNS, ROWS)),
        _screen(_box(0, 0, 100, 100)),
    ],
    ids=["black", "grey", "a form", "words", "two scans", "no surroundings", "a stamp"],
)
def test_where_it_is_not_clear_nothing_is_found(picture: np.ndarray) -> None:
    assert scan_area(picture) is None


@pytest.mark.parametrize(("no_region", "stored"), [("skip", 0), ("detect", 1)])
def test_an_image_without_region_is_searched_only_if_the_site_wants_it(
    tmp_path: Path, no_region: str, stored: int
) -> None:
    picture = _screen(at=(60, 100))
    instance = instance_of(saved(ultrasound(picture[None]), tmp_path / "a.dcm"))
    settings = HarvestSettings(no_region=no_region)  # type: ignore[arg-type]
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(settings, tmp_path / "data", sandbox) as harvester,
    ):
        count = harvester.harvest(instance)
        assert count["frames stored"] == stored
        assert count.get("no region", 0) == 1 - stored
        again = harvester.harvest(instance)
        assert again.get("already stored", 0) == stored
        for frame in harvester.store.frames():
            pixels = harvester.store.pixels(frame.frame_id)
            crop = harvester.store.crop_of(frame.instance)
            assert not pixels[~_sector()[crop.slices] & (pixels > 200)].any()


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_no_heading_of_a_real_image_without_region_is_kept(test_data: Path) -> None:
    found = []
    for path in sorted((test_data / "dicom_us").glob("dicom-test-files__US1_*.dcm")):
        [(_, frame)] = decode(path, [1])
        area = scan_area(frame)
        if area is not None:
            found.append(area.box)
    assert len(found) >= 3
    assert all(box.top >= 100 and box.bottom <= 340 for box in found)


@pytest.mark.parametrize("kind", [{"RegionDataType": 10}, {"RegionSpatialFormat": 3}])
def test_a_diagram_that_lies_over_the_named_region_is_black_in_the_store(
    tmp_path: Path, kind: dict[str, int]
) -> None:
    picture = _screen(at=(230, 350))
    items = [
        region_item(Box(left=100, top=50, right=540, bottom=430)),
        region_item(Box(left=220, top=340, right=600, bottom=420), **kind),
    ]
    data_set = ultrasound(picture[None], SequenceOfUltrasoundRegions=items)
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester,
    ):
        harvester.harvest(instance_of(saved(data_set, tmp_path / "a.dcm")))
        [frame] = harvester.store.frames()
        found = harvester.store.pixels(frame.frame_id)
    expected = picture[50:430, 100:540].copy()
    expected[290:370, 120:440] = 0
    assert np.array_equal(found, expected)
