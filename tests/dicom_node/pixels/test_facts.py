from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import NodeError, PixelError, UnreadableError
from dicom_node.pixels.facts import read_facts
from dicom_node.records import Box
from tests.support.frames import (
    PYDICOM_FILES,
    changed,
    pydicom_file,
    region_item,
    saved,
    ultrasound,
    with_its_region,
)

BLANK = np.zeros((1, 100, 200), np.uint8)
INNER = Box(left=20, top=10, right=180, bottom=90)


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_the_real_files_of_pydicom_are_read(name: str) -> None:
    facts = read_facts(pydicom_file(name))
    assert (facts.number_of_frames, facts.region is not None) == PYDICOM_FILES[name]


def test_the_region_and_spacing_of_a_real_curved_array_image(tmp_path: Path) -> None:
    # Max X1 is one pixel outside
    facts = read_facts(with_its_region(tmp_path / "a.dcm"))
    assert facts.region == Box(left=120, top=60, right=800, bottom=350)
    assert facts.spacing_mm == pytest.approx((0.26229, 0.26229), abs=1e-5)


def test_the_last_pixel_of_a_region_is_inside(tmp_path: Path) -> None:
    item = region_item(INNER)
    assert item.RegionLocationMaxX1 == 179
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=[item]), tmp_path / "a.dcm")
    assert read_facts(path).region == INNER


@pytest.mark.parametrize(
    "fields",
    [
        {"RegionSpatialFormat": 0, "RegionDataType": 0},  # a dummy
        {"RegionSpatialFormat": 2},  # M-mode
        {"RegionSpatialFormat": 3, "RegionDataType": 3},  # spectral Doppler
        {"RegionDataType": 10},  # ECG
        {"RegionLocationMaxX1": 25},  # too narrow for a picture
        {"RegionLocationMaxX1": 202},  # three columns outside
        {"RegionLocationMaxY1": 102},
        {"RegionLocationMinX0": 500, "RegionLocationMaxX1": 900},  # outside
        {"RegionLocationMinY0": 60, "RegionLocationMaxY1": 20},  # upside down
    ],
)
def test_what_is_no_tissue_picture_is_no_region(tmp_path: Path, fields: dict[str, int]) -> None:
    items = [region_item(INNER, **fields)]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert (facts.region, facts.spacing_mm) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"RegionSpatialFormat": 3, "RegionDataType": 3},
        {"RegionDataType": 10},
    ],
)
def test_where_one_region_leaves_the_picture_none_is_believed(
    tmp_path: Path, fields: dict[str, int]
) -> None:
    beyond = region_item(Box(left=0, top=90, right=160, bottom=120), **fields)
    items = [region_item(INNER), beyond]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert (facts.region, facts.spacing_mm, facts.region_spacing_mm) == (None, None, None)


def test_a_dummy_may_lie_anywhere(tmp_path: Path) -> None:
    dummy = region_item(Box(left=0, top=0, right=900, bottom=900), RegionSpatialFormat=0)
    items = [dummy, region_item(INNER)]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    assert read_facts(path).region == INNER


def test_a_region_may_leave_the_picture_by_two_pixels(tmp_path: Path) -> None:
    items = [region_item(Box(left=20, top=10, right=202, bottom=102))]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    assert read_facts(path).region == Box(left=20, top=10, right=200, bottom=100)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_real_picture_that_was_made_half_as_large_has_no_region(test_data: Path) -> None:
    large, small = (
        read_facts(test_data / "dicom_us" / name)
        for name in (
            "pydicom-data-1.0.0__color3d_jpeg_baseline.dcm",
            "pydicom__examples_ybr_color.dcm",
        )
    )
    # the same region and scale stand in both headers
    assert (large.rows, large.region) == (480, Box(left=84, top=31, right=596, bottom=415))
    assert large.spacing_mm == pytest.approx((0.5105, 0.5105), abs=1e-4)
    assert (small.rows, small.region, small.spacing_mm) == (240, None, None)


def test_the_largest_of_several_regions_counts(tmp_path: Path) -> None:
    small = region_item(Box(left=0, top=0, right=50, bottom=50))
    items = [region_item(INNER, RegionSpatialFormat=0), small, region_item(INNER)]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert (facts.region, facts.further_regions) == (INNER, 1)


@pytest.mark.parametrize(
    ("fields", "is_diagram"),
    [
        ({"RegionSpatialFormat": 2}, True),  # M-mode
        ({"RegionSpatialFormat": 3, "RegionDataType": 3}, True),  # spectral Doppler
        ({"RegionSpatialFormat": 4, "RegionDataType": 10}, True),  # ECG
        ({"RegionDataType": 10}, True),  # ... that says it were 2D
        ({"RegionDataType": 2}, False),  # colour flow
        ({}, False),  # more tissue
        ({"RegionSpatialFormat": 0, "RegionDataType": 0}, False),  # a dummy
    ],
)
def test_the_part_of_the_region_that_a_diagram_takes_is_told(
    tmp_path: Path, fields: dict[str, int], is_diagram: bool
) -> None:
    diagram = region_item(Box(left=0, top=70, right=60, bottom=95), **fields)
    items = [region_item(INNER), diagram]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert facts.region == INNER
    part = Box(left=20, top=70, right=60, bottom=90)
    assert facts.overlaid == ((part,) if is_diagram else ())


def test_a_diagram_beside_the_region_takes_nothing_of_it(tmp_path: Path) -> None:
    below = region_item(Box(left=0, top=90, right=200, bottom=100), RegionSpatialFormat=4)
    items = [region_item(INNER), below]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    assert read_facts(path).overlaid == ()


def test_of_two_regions_that_are_equally_large_the_first_counts(tmp_path: Path) -> None:
    halves = [Box(left=x, top=0, right=x + 100, bottom=100) for x in (100, 0)]
    items = [region_item(half) for half in halves]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert (facts.region, facts.further_regions) == (halves[0], 1)


@pytest.mark.parametrize(
    ("other", "spacing"),
    [
        ({}, (0.5, 0.5)),
        ({"PhysicalDeltaX": -0.05}, (0.5, 0.5)),
        ({"PhysicalDeltaX": 0.08}, None),
        ({"PhysicalUnitsYDirection": 4}, None),
        ({"PhysicalDeltaY": 0.0}, None),
    ],
)
def test_only_one_scale_in_centimetres_is_the_spacing_of_the_picture(
    tmp_path: Path, other: dict[str, float], spacing: tuple[float, float] | None
) -> None:
    items = [region_item(INNER), region_item(INNER, **other)]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert facts.spacing_mm == pytest.approx(spacing)
    # the one that is kept is the first
    assert facts.region_spacing_mm == pytest.approx((0.5, 0.5))


def test_a_scale_of_another_region_is_not_lent_to_the_one_that_is_kept(tmp_path: Path) -> None:
    small = region_item(Box(left=0, top=0, right=50, bottom=50))
    items = [region_item(INNER, PhysicalUnitsXDirection=0), small]
    path = saved(ultrasound(BLANK, SequenceOfUltrasoundRegions=items), tmp_path / "a.dcm")
    facts = read_facts(path)
    assert (facts.spacing_mm, facts.region_spacing_mm) == (None, None)


@pytest.mark.parametrize("stated", [None, "", "0", "1"])
def test_an_absent_or_empty_number_of_frames_is_one(tmp_path: Path, stated: str | None) -> None:
    path = changed("examples_rgb_color.dcm", tmp_path / "a.dcm")
    if stated is not None:
        changed("examples_rgb_color.dcm", path, NumberOfFrames=stated)
    assert read_facts(path).number_of_frames == 1


def _with_bytes(tmp_path: Path, old: bytes, new: bytes) -> Path:
    content = pydicom_file("examples_ybr_color.dcm").read_bytes()
    assert content.count(old) == 1
    path = tmp_path / "a.dcm"
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
@pytest.mark.parametrize("stated", [b"xy", b"-3", b"1;"])
def test_a_number_of_frames_that_is_none_is_refused(tmp_path: Path, stated: bytes) -> None:
    path = _with_bytes(
        tmp_path, b"\x28\x00\x08\x00IS\x02\x0030", b"\x28\x00\x08\x00IS\x02\x00" + stated
    )
    with pytest.raises(PixelError, match="Number of Frames"):
        read_facts(path)


def test_an_object_without_pixels_is_no_image(tmp_path: Path) -> None:
    path = changed("examples_rgb_color.dcm", tmp_path / "a.dcm", Rows=None)
    with pytest.raises(PixelError, match="not an image"):
        read_facts(path)


def test_bytes_that_are_no_dicom_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"\0" * 1000)
    with pytest.raises(UnreadableError):
        read_facts(path)


def test_a_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    data_set = ultrasound(BLANK)
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = saved(data_set, tmp_path / "a.dcm")
    with pytest.raises(UnreadableError, match="deflated"):
        read_facts(path)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_image_gives_its_facts(test_data: Path) -> None:
    paths = sorted((test_data / "dicom_us").glob("*.dcm"))
    refused = []
    regions = 0
    for path in paths:
        try:
            regions += read_facts(path).region is not None
        except NodeError:
            refused.append(path.name)
    # a file without Rows is the only one that is no image
    assert refused == ["cornerstone3D__no-meta-length-test.dcm"]
    assert regions == 20


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_malformed_files_give_facts_or_a_node_error(test_data: Path) -> None:
    for path in sorted((test_data / "dicom_bad").glob("*.dcm")):
        try:
            facts = read_facts(path)
        except NodeError:
            continue
        assert facts.rows >= 1
        assert facts.region is None or facts.region.right <= facts.columns
