import re
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, open_harvester
from dicom_node.pixels.decode import decode
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Geometry, Instance
from dicom_node.store import audit
from tests.support.frames import (
    PYDICOM_FILES,
    changed,
    instance_of,
    pydicom_file,
    region_item,
    saved,
    speckle,
    ultrasound,
    with_its_region,
)

REGION = Box(left=30, top=40, right=110, bottom=120)
BANNER = 255


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture
def harvester(tmp_path: Path, sandbox: PixelSandbox) -> Iterator[Harvester]:
    with open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester:
        yield harvester


def _cine(path: Path, frames: int = 1, **fields: object) -> Instance:
    """Write an image with white writing all around its region."""
    pixels = np.full((frames, 128, 128), BANNER, np.uint8)
    for number in range(frames):
        pixels[number][REGION.slices] = speckle(80, 80, seed=number) // 2
    data_set = ultrasound(
        pixels,
        SequenceOfUltrasoundRegions=[region_item(REGION)],
        Manufacturer="Philips Medical Systems",
        TransducerData=["C5_1", "54629", ""],
        StudyDescription="US Biopsy  Liver Focal",
        **fields,
    )
    return instance_of(saved(data_set, path))


def test_a_frame_is_stored_with_what_the_scanner_said(harvester: Harvester, tmp_path: Path) -> None:
    instance = _cine(tmp_path / "a.dcm")
    assert harvester.harvest(instance) == {"frames stored": 1}
    (frame,) = harvester.store.frames()
    assert (frame.probe, frame.geometry) == ("C5-1", Geometry.CURVILINEAR)
    assert frame.groups == {"liver", "abdomen"}
    assert frame.spacing_mm == pytest.approx((0.5, 0.5))
    assert frame.patient == harvester.key.token("patient", "4711")
    assert frame.instance == harvester.key.token("instance", instance.sop_instance_uid)
    assert harvester.store.crop_of(frame.instance) == REGION


def test_nothing_outside_the_region_enters_the_store(harvester: Harvester, tmp_path: Path) -> None:
    harvester.harvest(_cine(tmp_path / "a.dcm", frames=4))
    assert len(harvester.store.frames()) == 4
    for frame in harvester.store.frames():
        pixels = harvester.store.pixels(frame.frame_id)
        assert pixels.shape == (80, 80)
        assert pixels.max() < BANNER
        assert np.array_equal(pixels, speckle(80, 80, seed=frame.frame_number - 1) // 2)


def test_no_identity_enters_the_store(harvester: Harvester, tmp_path: Path) -> None:
    instance = _cine(tmp_path / "a.dcm", PatientName="Roe^Richard", PatientID="MRN-0815")
    harvester.harvest(instance)
    folder = tmp_path / "data" / "store"
    assert audit(folder) == []
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in ("Roe", "MRN-0815", "54629", "BIOPSY", instance.sop_instance_uid):
        assert secret.encode() not in content


def test_cines_are_sampled_in_time(harvester: Harvester, tmp_path: Path) -> None:
    # 25 frames a second, 3 of them are kept
    harvester.harvest(_cine(tmp_path / "a.dcm", frames=50, FrameTime=40))
    numbers = [frame.frame_number for frame in harvester.store.frames()]
    assert numbers == [1, 9, 17, 26, 34, 42]


@pytest.mark.parametrize(
    "fields",
    [
        {"CineRate": 25},
        {"RecommendedDisplayFrameRate": 25},
        {"FrameTimeVector": [0, *([40] * 49)]},
        {"FrameTime": 0, "CineRate": 25},
    ],
)
def test_every_way_to_say_the_frame_rate_is_understood(
    harvester: Harvester, tmp_path: Path, fields: dict[str, object]
) -> None:
    assert harvester.harvest(_cine(tmp_path / "a.dcm", frames=50, **fields)) == {"frames stored": 6}


def test_a_repeated_harvest_changes_nothing(harvester: Harvester, tmp_path: Path) -> None:
    instance = _cine(tmp_path / "a.dcm", frames=3)
    harvester.harvest(instance)
    version = harvester.store.version()
    assert harvester.harvest(instance) == {"frames stored": 0, "already stored": 3}
    assert harvester.store.version() == version
    assert [seen.studies for seen in harvester.notes.descriptions(harvester.label_map)] == [1]


def test_equal_and_black_frames_are_stored_once_or_never(
    harvester: Harvester, tmp_path: Path
) -> None:
    pixels = np.zeros((3, 128, 128), np.uint8)
    pixels[:2] = speckle(128, 128)
    pixels[2, :20] = BANNER
    data_set = ultrasound(pixels, SequenceOfUltrasoundRegions=[region_item(REGION)])
    count = harvester.harvest(instance_of(saved(data_set, tmp_path / "a.dcm")))
    assert count == {"frames stored": 1, "duplicate": 1, "black": 1}


def test_another_picture_under_the_same_uid_is_refused(
    harvester: Harvester, tmp_path: Path
) -> None:
    first = _cine(tmp_path / "a.dcm")
    harvester.harvest(first)
    other = Box(left=0, top=0, right=64, bottom=64)
    data_set = dcmread(first.path)
    data_set.SequenceOfUltrasoundRegions = [region_item(other)]
    path = saved(data_set, tmp_path / "b.dcm")
    assert harvester.harvest(instance_of(path)) == {"frames stored": 0, "refused": 1}


def _shown(path: Path, pictures: list[np.ndarray]) -> Instance:
    """Write a cine of pictures of the size of the region, 25 a second, all of them wanted."""
    pixels = np.full((len(pictures), 128, 128), BANNER, np.uint8)
    for frame, picture in zip(pixels, pictures, strict=True):
        frame[REGION.slices] = picture
    regions = [region_item(REGION)]
    return instance_of(
        saved(ultrasound(pixels, SequenceOfUltrasoundRegions=regions, FrameTime=400), path)
    )


def _still_then_moved() -> list[np.ndarray]:
    still = speckle(80, 80) // 2
    moved = still.copy()
    moved[:32, :32] += 20
    return [still, still + 2, still + 4, moved, moved + 3]


def test_a_frame_in_which_hardly_anything_moved_is_noted_and_not_stored(
    harvester: Harvester, tmp_path: Path
) -> None:
    instance = _shown(tmp_path / "a.dcm", _still_then_moved())
    assert harvester.harvest(instance) == {"frames stored": 2, "near duplicate": 3}
    assert [frame.frame_number for frame in harvester.store.frames()] == [1, 4]
    assert harvester.harvest(instance) == {"frames stored": 0, "already stored": 5}


def test_a_picture_that_was_lost_is_written_again_by_the_next_harvest(
    harvester: Harvester, tmp_path: Path
) -> None:
    instance = _shown(tmp_path / "a.dcm", _still_then_moved())
    harvester.harvest(instance)
    folder = tmp_path / "data" / "store"
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    for lost in before:
        lost.unlink()
        assert "the next harvest of its study" in audit(folder)[0].what
        assert harvester.harvest(instance)["frames stored"] == 1
        assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert audit(folder) == []


def test_slow_movement_adds_up_to_a_new_frame(harvester: Harvester, tmp_path: Path) -> None:
    still = speckle(80, 80) // 2
    instance = _shown(tmp_path / "a.dcm", [still + grey for grey in range(0, 16, 3)])
    assert harvester.harvest(instance) == {"frames stored": 3, "near duplicate": 3}


def test_a_harvest_that_goes_on_compares_with_what_it_stored_before(
    harvester: Harvester, tmp_path: Path
) -> None:
    pictures = _still_then_moved()
    instance = _shown(tmp_path / "a.dcm", pictures)
    whole = dcmread(instance.path)
    short = dcmread(instance.path)
    short.NumberOfFrames, short.PixelData = 2, whole.PixelData[: 2 * 128 * 128]
    harvester.harvest(instance_of(saved(short, tmp_path / "b.dcm")))
    assert harvester.harvest(instance) == {
        "frames stored": 1,
        "near duplicate": 2,
        "already stored": 2,
    }


def test_the_clip_and_the_time_of_each_frame_are_kept(harvester: Harvester, tmp_path: Path) -> None:
    harvester.harvest(_shown(tmp_path / "a.dcm", _still_then_moved()))
    first, moved = harvester.store.frames()
    assert first.instance == moved.instance
    assert first.time_s == 0
    assert moved.time_s == pytest.approx(1.2)
    assert (first.number_of_frames, moved.number_of_frames) == (5, 5)
    clip = harvester.store.clip(first.instance)
    assert [one.time_s for one in clip] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    assert [one.frame_id for one in clip] == [first.frame_id] * 3 + [moved.frame_id] * 2


def test_a_still_has_no_place_in_time(harvester: Harvester, tmp_path: Path) -> None:
    harvester.harvest(_cine(tmp_path / "a.dcm", FrameTime=40))
    (frame,) = harvester.store.frames()
    assert (frame.time_s, frame.number_of_frames) == (None, 1)


@pytest.mark.parametrize(
    ("stated", "may_show_text"), [(None, True), ("", True), ("YES", True), ("NO", False)]
)
def test_only_an_explicit_no_denies_burned_in_text(
    harvester: Harvester, tmp_path: Path, stated: str | None, may_show_text: bool
) -> None:
    harvester.harvest(_cine(tmp_path / "a.dcm", BurnedInAnnotation=stated))
    assert harvester.store.frames()[0].burned_in_annotation is may_show_text


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ("YES", "burned in annotation"),
        ("", "burned in annotation not said"),
        (None, "burned in annotation not said"),
        ("NO", None),
    ],
)
def test_a_site_may_leave_out_what_may_show_text(
    tmp_path: Path, sandbox: PixelSandbox, stated: str | None, why: str | None
) -> None:
    image = _cine(tmp_path / "a.dcm", frames=2, BurnedInAnnotation=stated)
    settings = HarvestSettings(burned_in="skip")
    with open_harvester(settings, tmp_path / "data", sandbox) as harvester:
        counts = harvester.harvest(image)
        assert counts == ({"frames stored": 0, why: 2} if why else {"frames stored": 2})
        assert len(harvester.store.frames()) == counts["frames stored"]


def test_of_several_regions_the_largest_is_kept_with_its_own_scale_and_the_others_counted(
    harvester: Harvester, tmp_path: Path
) -> None:
    other = Box(left=0, top=0, right=40, bottom=40)
    regions = [region_item(other, PhysicalDeltaX=0.2), region_item(REGION)]
    data_set = ultrasound(speckle(128, 128)[None], SequenceOfUltrasoundRegions=regions)
    count = harvester.harvest(instance_of(saved(data_set, tmp_path / "a.dcm")))
    assert count == {"frames stored": 1, "further regions": 1}
    [frame] = harvester.store.frames()
    assert harvester.store.crop_of(frame.instance) == REGION
    assert frame.spacing_mm == pytest.approx((0.5, 0.5))


def test_a_picture_that_is_smaller_than_its_header_says_is_left_out(
    harvester: Harvester, tmp_path: Path
) -> None:
    small = _cine(tmp_path / "a.dcm")
    data_set = dcmread(small.path)
    half = np.full((64, 64), BANNER, np.uint8)
    data_set.Rows, data_set.Columns, data_set.PixelData = 64, 64, half.tobytes()
    image = instance_of(saved(data_set, small.path))
    assert harvester.harvest(image) == {"frames stored": 0, "no region": 1}


def test_a_study_without_patient_id_is_its_own_patient(
    harvester: Harvester, tmp_path: Path
) -> None:
    for name in ("a.dcm", "b.dcm"):
        pixels = speckle(128, 128, seed=ord(name[0]))[None]
        regions = [region_item(REGION)]
        data_set = ultrasound(pixels, SequenceOfUltrasoundRegions=regions, PatientID=None)
        harvester.harvest(instance_of(saved(data_set, tmp_path / name)))
    assert len({frame.patient for frame in harvester.store.frames()}) == 2


def _cut_short(path: Path) -> Path:
    data_set = dcmread(with_its_region(path))
    data_set.PixelData = b"\0" * 10
    return saved(data_set, path)


def test_what_cannot_be_harvested_is_counted_with_its_reason(
    harvester: Harvester, tmp_path: Path
) -> None:
    no_region = instance_of(pydicom_file("examples_rgb_color.dcm"))
    assert harvester.harvest(no_region) == {"frames stored": 0, "no region": 1}
    short = instance_of(_cut_short(tmp_path / "a.dcm"))
    assert harvester.harvest(short) == {"frames stored": 0, "undecodable": 1}
    no_image = instance_of(changed("examples_palette.dcm", tmp_path / "b.dcm", Rows=None))
    assert harvester.harvest(no_image) == {"frames stored": 0, "not an image": 1}
    report = replace(no_region, sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11")
    assert harvester.harvest(report) == {"frames stored": 0, "not ultrasound": 1}
    (tmp_path / "c.dcm").write_bytes(b"nothing")
    gone = replace(no_region, path=tmp_path / "c.dcm")
    assert harvester.harvest(gone) == {"frames stored": 0, "unreadable": 1}
    labels = harvester.labels(gone)
    assert (labels.geometry, labels.groups) == (Geometry.UNKNOWN, frozenset())


def test_a_study_is_harvested_image_by_image_in_order(harvester: Harvester, tmp_path: Path) -> None:
    broken = instance_of(_cut_short(tmp_path / "b.dcm"))
    images = [
        _cine(tmp_path / "a.dcm", frames=8),
        broken,
        instance_of(pydicom_file("examples_rgb_color.dcm")),
        _shown(tmp_path / "c.dcm", _still_then_moved()),
        _cine(tmp_path / "d.dcm", frames=12, StudyInstanceUID="2.25.7"),
    ]
    found = list(harvester.harvest_all(images))
    assert [instance for instance, _ in found] == images
    assert [counts for _, counts in found] == [
        {"frames stored": 8},
        {"frames stored": 0, "undecodable": 1},
        {"frames stored": 0, "no region": 1},
        {"frames stored": 1, "duplicate": 1, "near duplicate": 3},
        {"frames stored": 4, "duplicate": 8},
    ]
    assert len(harvester.store.frames()) == 8 + 1 + 4


def test_an_image_that_comes_twice_in_a_study_is_stored_once(
    harvester: Harvester, tmp_path: Path
) -> None:
    image = _cine(tmp_path / "a.dcm", frames=3)
    counts = [counts["frames stored"] for _, counts in harvester.harvest_all([image, image])]
    assert counts == [3, 0]
    assert len(harvester.store.frames()) == 3


def test_a_harvest_that_is_broken_off_leaves_whole_images_and_goes_on(
    harvester: Harvester, tmp_path: Path
) -> None:
    images = [_cine(tmp_path / f"{n}.dcm", frames=n) for n in (3, 4, 5)]
    with closing(harvester.harvest_all(images)) as harvested:
        next(harvested)
    assert len(harvester.store.frames()) == 3
    assert sum(counts["frames stored"] for _, counts in harvester.harvest_all(images)) == 2
    assert len(harvester.store.frames()) == 5


def test_words_that_were_erased_during_a_study_are_noted_anew(
    harvester: Harvester, tmp_path: Path
) -> None:
    fields = {"StudyInstanceUID": "2.25.7"}
    images = [_cine(tmp_path / f"{n}.dcm", frames=2, **fields) for n in range(2)]
    harvested = harvester.harvest_all(images)
    next(harvested)
    harvester.notes.erase(["2.25.7"])
    assert harvester.notes.descriptions(harvester.label_map) == []
    next(harvested)
    harvested.close()
    [seen] = harvester.notes.descriptions(harvester.label_map)
    assert seen.description == "US BIOPSY LIVER FOCAL"


def test_the_real_files_of_pydicom_name_no_region_of_theirs(harvester: Harvester) -> None:
    for name in PYDICOM_FILES:
        assert "no region" in harvester.harvest(instance_of(pydicom_file(name)))
    assert harvester.store.frames() == []


def test_a_real_image_gives_the_pixels_of_its_region(harvester: Harvester, tmp_path: Path) -> None:
    path = with_its_region(tmp_path / "a.dcm")
    harvester.harvest(instance_of(path))
    [frame] = harvester.store.frames()
    region = read_facts(path).region
    assert region is not None
    ((_, whole),) = decode(path, [1])
    assert np.array_equal(harvester.store.pixels(frame.frame_id), whole[region.slices])


def test_raw_words_stay_in_the_private_notes(harvester: Harvester, tmp_path: Path) -> None:
    harvester.harvest(_cine(tmp_path / "a.dcm"))
    (description,) = harvester.notes.descriptions(harvester.label_map)
    assert (description.description, description.is_mapped) == ("US BIOPSY LIVER FOCAL", True)
    (transducer,) = harvester.notes.transducers()
    assert transducer.transducer_data == "C5_1\\54629\\"
    assert (transducer.rule, transducer.studies) == ("philips curved", 1)
    notes = tmp_path / "data" / "harvest.db"
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    assert not notes.is_relative_to(tmp_path / "data" / "store")


def test_unmapped_descriptions_are_listed_by_how_often_they_come(
    harvester: Harvester, tmp_path: Path
) -> None:
    pixels = speckle(128, 128)[None]
    for study, words in enumerate(["US ABDO", "us  abdo", "US HEART", "US THYROID BIOPSY"]):
        data_set = ultrasound(pixels, StudyDescription=words)
        harvester.harvest(instance_of(saved(data_set, tmp_path / f"{study}.dcm")))
    seen = harvester.notes.descriptions(harvester.label_map)
    assert [(s.description, s.studies, s.is_mapped) for s in seen] == [
        ("US ABDO", 2, False),
        ("US HEART", 1, False),
        ("US THYROID BIOPSY", 1, True),
    ]


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_image_with_a_region_is_harvested(
    harvester: Harvester, test_data: Path, tmp_path: Path
) -> None:
    total: dict[str, int] = {}
    for path in sorted((test_data / "dicom_us").glob("*.dcm")):
        if "Rows" in dcmread(path, stop_before_pixels=True):
            for what, count in harvester.harvest(instance_of(path)).items():
                total[what] = total.get(what, 0) + count
    # the same picture in two files, of two halves
    assert total.pop("further regions") == 2
    assert set(total) == {"frames stored", "already stored", "duplicate", "no region"}
    assert total["frames stored"] == len(harvester.store.frames()) == 25
    assert audit(tmp_path / "data" / "store") == []


def test_the_store_of_the_real_files_holds_no_word_of_theirs(
    harvester: Harvester, tmp_path: Path
) -> None:
    assert harvester.harvest(instance_of(with_its_region(tmp_path / "a.dcm")))["frames stored"] == 1
    for name in PYDICOM_FILES:
        harvester.harvest(instance_of(pydicom_file(name)))
    content = b"".join(
        path.read_bytes() for path in (tmp_path / "data" / "store").rglob("*") if path.is_file()
    )
    assert not re.search(rb"1\.2\.840|UNUSED|Philips|CX50|SonoSite", content)
