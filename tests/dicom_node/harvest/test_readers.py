from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Fate, Harvester, ReaderLabels, attach_labels, open_harvester
from dicom_node.harvest.erasing import erasing_patient
from dicom_node.harvest.reader_objects import OUR_NAME, READER_OBJECTS, content_items
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, Instance, Task
from dicom_node.store import Observer, Origin, Software, audit
from tests.support.analyses import INSTALLATION, analysis_of
from tests.support.frames import instance_of, saved
from tests.support.reader_objects import (
    KIDNEY,
    LIVER,
    READER,
    REGION,
    SIZE,
    UPRIGHT,
    drawn,
    image,
    kept,
    report,
    said_at,
    seg_by_dcmqi,
    seg_by_highdicom,
    seg_by_ohif,
)
from tests.support.stills import write_each

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


class Desk:
    """A harvest, with objects that come to it one after the other."""

    def __init__(self, harvester: Harvester, folder: Path) -> None:
        self.harvester, self.folder = harvester, folder
        self.images: dict[str, Instance] = {}
        self._came = 0

    def image(self, frames: int = 1, **fields: object) -> Instance:
        """Return an image of which every frame is in the store."""
        found = self.unharvested(frames, **fields)
        self.harvester.harvest(found)
        return found

    def unharvested(self, frames: int = 1, **fields: object) -> Instance:
        found = image(self.folder / f"image-{len(self.images)}.dcm", frames, **fields)
        self.images[found.sop_instance_uid] = found
        return found

    def came(self, data_set: FileDataset) -> Instance:
        """Return an object that came after those that came before."""
        self._came += 1
        path = saved(data_set, self.folder / f"object-{self._came}.dcm")
        return replace(instance_of(path), received_at=NOW + timedelta(minutes=self._came))

    def take(self, *objects: FileDataset | Instance) -> dict[str, int]:
        instances = [one if isinstance(one, Instance) else self.came(one) for one in objects]
        return self.harvester.readers.take(instances, find=self.images.get, is_ours=lambda _: False)

    def masks(self) -> dict[int, np.ndarray]:
        """Return the masks that are heard, by frame number."""
        store = self.harvester.store
        labelled = store.frames(labelled=Task.SEGMENTATION)
        return {frame.frame_number: store.mask(frame.frame_id) for frame in labelled}

    def scores(self) -> dict[int, int | None]:
        labelled = self.harvester.store.frames(labelled=Task.QUALITY)
        return {frame.frame_number: frame.quality for frame in labelled}

    def reasons(self) -> dict[str, int]:
        """Return why something of the last object is not used."""
        return dict(self.harvester.readers.notes.objects()[0].reasons)


@pytest.fixture(scope="module")
def second_sandbox(sandbox: PixelSandbox) -> Iterator[PixelSandbox]:
    with sandbox.another() as second:
        yield second


@pytest.fixture
def desk(tmp_path: Path, sandbox: PixelSandbox, second_sandbox: PixelSandbox) -> Iterator[Desk]:
    site = tmp_path / "codes.csv"
    site.write_text(
        "code,label,stands_for\n"
        "SRT:T-D0050,liver,liver-kidney/liver\n"
        "SCT:85756007,KIDNEY,liver-kidney/kidney\n"
        "99SITE:Q,,quality\n"
        "SCT:21594007,,breast/malignant\n"
    )
    settings = HarvestSettings(reader_codes=site, frames_per_s=1000)
    with open_harvester(settings, tmp_path / "data", sandbox) as harvester:
        readers = ReaderLabels(
            store=harvester.store,
            key=harvester.key,
            notes=harvester.readers.notes,
            private=harvester.notes,
            codes=harvester.readers.codes,
            sandbox=second_sandbox,  # one for all tests
        )
        yield Desk(replace(harvester, readers=readers), tmp_path)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_segmentation_becomes_the_masks_of_its_frames(desk: Desk, kind: str, frames: int) -> None:
    source, maps = desk.image(frames), drawn(frames)
    counts = desk.take(seg_by_highdicom(source.path, maps, kind=kind))
    assert counts == {Fate.USED: 1, "labels": frames}
    found = desk.masks()
    assert sorted(found) == [*range(1, frames + 1)]
    for number, mask in found.items():
        assert np.array_equal(mask, kept(maps[number - 1]))
    assert {f.label_set for f in desk.harvester.store.frames()} == {"liver-kidney"}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_segmentation_of_ohif_is_known_by_its_labels(
    desk: Desk, frames: int, compressed: bool
) -> None:
    source, maps = desk.image(frames), drawn(3)
    seg = seg_by_ohif(source.path, {frames: maps[0]}, compressed=compressed)
    assert desk.take(seg) == {Fate.USED: 1, "labels": 1}
    assert np.array_equal(desk.masks()[frames], kept(maps[0]))
    (found,) = desk.harvester.store.readers.of(_token(desk, source))
    assert found.provenance.software is Software.OHIF
    assert found.provenance.observer is Observer.UNNAMED


def test_a_segmentation_of_3d_slicer_becomes_a_mask(desk: Desk, tmp_path: Path) -> None:
    # its writer takes no image without a place
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": UPRIGHT}
    source, maps = desk.image(**place, PixelSpacing=[1, 1]), drawn()
    seg = seg_by_dcmqi(source.path, maps[0], tmp_path)
    assert desk.take(seg) == {Fate.USED: 1, "labels": 1}
    assert np.array_equal(desk.masks()[1], kept(maps[0]))


def test_who_drew_with_what_in_which_object_is_kept_without_a_name(desk: Desk) -> None:
    source = desk.image()
    seg = desk.came(seg_by_highdicom(source.path, drawn()))
    desk.take(seg)
    (found,) = desk.harvester.store.readers.of(_token(desk, source))
    key = desk.harvester.key
    assert found.provenance.reader == key.token("reader", READER.upper())
    assert found.provenance.object == key.token("object", seg.sop_instance_uid)
    assert (found.provenance.origin, found.place) == (Origin.SEG, 1)
    assert (found.provenance.software, found.provenance.observer) == (
        Software.HIGHDICOM,
        Observer.NAMED,
    )
    store = desk.folder / "data" / "store"
    assert audit(store) == []
    content = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    for secret in ("Roe", "ROE", seg.sop_instance_uid, "Painter"):
        assert secret.encode() not in content


def test_a_later_object_of_the_same_reader_supersedes(desk: Desk) -> None:
    source, first, second = desk.image(3), drawn(3), drawn(3, seed=1)
    desk.take(seg_by_highdicom(source.path, first, **said_at("20260101")))
    later = seg_by_ohif(
        source.path, {2: second[1]}, ContentCreatorName="roe^rita^", **said_at("20260102")
    )
    desk.take(later)
    # what he does not say any more is taken back
    assert [*desk.masks()] == [2]
    assert np.array_equal(desk.masks()[2], kept(second[1]))
    assert len(desk.harvester.store.readers.superseded()) == 1
    assert audit(desk.folder / "data" / "store") == []


def test_what_was_made_earlier_and_comes_later_supersedes_nothing(desk: Desk) -> None:
    source, first, second = desk.image(), drawn(), drawn(seed=1)
    desk.take(seg_by_highdicom(source.path, second, **said_at("20260102")))
    desk.take(seg_by_highdicom(source.path, first, **said_at("20260101")))
    assert np.array_equal(desk.masks()[1], kept(second[0]))
    places = [one.place for one in desk.harvester.store.readers.of(_token(desk, source))]
    assert places == [1, 2]


def test_of_two_that_were_made_at_once_the_one_that_came_later_counts(desk: Desk) -> None:
    source, first, second = desk.image(), drawn(), drawn(seed=1)
    early = desk.came(seg_by_highdicom(source.path, first, **said_at("20260101")))
    late = desk.came(seg_by_highdicom(source.path, second, **said_at("20260101")))
    desk.take(late, early)
    assert np.array_equal(desk.masks()[1], kept(second[0]))


def test_a_clock_that_is_ahead_does_not_win_for_ever(desk: Desk) -> None:
    source, first, second = desk.image(), drawn(), drawn(seed=1)
    desk.take(seg_by_highdicom(source.path, first, **said_at("20991231")))
    desk.take(seg_by_highdicom(source.path, second, **said_at("20991231")))
    assert np.array_equal(desk.masks()[1], kept(second[0]))


def test_an_organ_that_is_drawn_in_an_object_of_its_own_joins_the_others(desk: Desk) -> None:
    source, maps = desk.image(), drawn()
    liver, kidney = (np.where(maps == value, 1, 0).astype(np.uint8) for value in (1, 2))
    desk.take(seg_by_highdicom(source.path, liver, codes=[LIVER], **said_at("20260101")))
    desk.take(seg_by_highdicom(source.path, kidney, codes=[KIDNEY], **said_at("20260102")))
    assert np.array_equal(desk.masks()[1], kept(maps[0]))
    assert desk.harvester.store.readers.superseded() == frozenset()
    labels = {one.reading.labels for one in desk.harvester.store.readers.of(_token(desk, source))}
    assert labels == {frozenset({1}), frozenset({2})}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_readers_the_last_is_heard_and_both_are_kept(
    desk: Desk, order: tuple[int, int]
) -> None:
    source, first, second = desk.image(), drawn(), drawn(seed=1)
    objects = [
        seg_by_highdicom(source.path, first, **said_at("20260101")),
        seg_by_highdicom(source.path, second, ContentCreatorName="Poe^Paul", **said_at("20260102")),
    ]
    for place in order:
        desk.take(objects[place])
    assert np.array_equal(desk.masks()[1], kept(second[0]))
    said = desk.harvester.store.readers.of(_token(desk, source))
    assert len({one.provenance.reader for one in said}) == 2
    assert [
        np.array_equal(one.reading.mask, kept(maps[0]))
        for one, maps in zip(said, (first, second), strict=True)
    ] == [True, True]
    assert desk.harvester.store.readers.superseded() == frozenset()


def test_when_the_last_reader_takes_his_word_back_the_other_is_heard_again(desk: Desk) -> None:
    source, first, second = desk.image(2), drawn(2), drawn(2, seed=1)
    other = {"ContentCreatorName": "Poe^Paul"}
    desk.take(seg_by_highdicom(source.path, first, **said_at("20260101")))
    desk.take(seg_by_ohif(source.path, {1: second[0]}, **other, **said_at("20260102")))
    desk.take(seg_by_ohif(source.path, {2: second[1]}, **other, **said_at("20260103")))
    found = desk.masks()
    assert np.array_equal(found[1], kept(first[0]))
    assert np.array_equal(found[2], kept(second[1]))


def test_looking_again_changes_nothing(desk: Desk) -> None:
    source = desk.image(2)
    seg = desk.came(seg_by_highdicom(source.path, drawn(2)))
    desk.take(seg)
    version = desk.harvester.store.version()
    assert desk.take(seg) == {Fate.USED: 1, "labels": 2}
    assert desk.harvester.store.version() == version
    assert len(desk.harvester.readers.notes.objects()) == 1


def test_an_object_that_comes_before_its_images_waits_for_them(desk: Desk) -> None:
    source, maps = desk.unharvested(2), drawn(2)
    seg = desk.came(seg_by_highdicom(source.path, maps))
    assert desk.take(seg) == {Fate.WAITING: 1}
    notes = desk.harvester.readers.notes
    assert notes.about([source.sop_instance_uid]) == [seg.sop_instance_uid]
    desk.harvester.harvest(source)
    assert desk.take(seg) == {Fate.USED: 1, "labels": 2}
    assert notes.about([source.sop_instance_uid]) == []


def test_frames_that_the_store_does_not_keep_are_counted(desk: Desk) -> None:
    pixels_twice = desk.unharvested(9)
    few = replace(desk.harvester, settings=HarvestSettings(max_frames_per_clip=3))
    few.harvest(pixels_twice)
    stored = desk.harvester.store.readers.stored_numbers(_token(desk, pixels_twice))
    maps = drawn(9)
    assert desk.take(seg_by_highdicom(pixels_twice.path, maps)) == {Fate.USED: 1, "labels": 3}
    assert {*desk.masks()} == stored
    assert all(np.array_equal(m, kept(maps[n - 1])) for n, m in desk.masks().items())
    assert desk.reasons() == {"frame that the store does not keep": 6}


def test_of_segments_that_overlap_the_later_one_is_on_top(desk: Desk) -> None:
    source = desk.image()
    both = np.ones((1, SIZE, SIZE, 2), np.uint8)
    both[:, :, : SIZE // 2, 1] = 0
    desk.take(seg_by_highdicom(source.path, both))
    half = SIZE // 2 - REGION.left
    assert np.array_equal(desk.masks()[1][:, :half], np.full((80, half), 1))
    assert np.array_equal(desk.masks()[1][:, half:], np.full((80, 80 - half), 2))


def test_an_object_about_several_images_labels_each_of_them(desk: Desk) -> None:
    first, second, maps = desk.image(), desk.image(seed=1), drawn()
    seg = seg_by_ohif(first.path, {1: maps[0]})
    kidney = seg.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence[0]
    kidney.SourceImageSequence[0].ReferencedSOPInstanceUID = second.sop_instance_uid
    assert desk.take(seg) == {Fate.USED: 1, "labels": 2}
    store = desk.harvester.store
    for source, value in ((first, 1), (second, 2)):
        (said,) = store.readers.of(_token(desk, source))
        assert said.reading.mask is not None
        assert np.array_equal(said.reading.mask > 0, kept(maps[0] == value))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_planes_that_lie_the_other_way_round_are_turned(desk: Desk, up: bool, left: bool) -> None:
    source, maps = desk.image(), drawn()
    turned = np.ascontiguousarray(maps[:, :: -1 if up else 1, :: -1 if left else 1])
    seg = seg_by_highdicom(source.path, turned)
    _turn(seg, [-1.0 if left else 1.0, 0, 0, 0, -1.0 if up else 1.0, 0])
    desk.take(seg)
    assert np.array_equal(desk.masks()[1], kept(maps[0]))


def test_a_plane_across_the_image_is_refused(desk: Desk) -> None:
    source = desk.image()
    seg = seg_by_highdicom(source.path, drawn())
    _turn(seg, [0, 1, 0, 1, 0, 0])
    assert desk.take(seg) == {Fate.NOT_USED: 1}
    assert any("lies across the image" in reason for reason in desk.reasons())


def test_a_segmentation_of_another_size_is_refused_with_both_sizes(desk: Desk) -> None:
    source = desk.image()
    seg = seg_by_ohif(source.path, {1: drawn()[0]}, Rows=SIZE // 2, Columns=2 * SIZE)
    assert desk.take(seg) == {Fate.NOT_USED: 1}
    (reason,) = desk.reasons()
    assert "64 x 256" in reason
    assert "128 x 128" in reason
    assert desk.masks() == {}


def _without_references(seg: FileDataset) -> FileDataset:
    for item in seg.PerFrameFunctionalGroupsSequence:
        del item.DerivationImageSequence
    return seg


def test_without_references_by_plane_the_only_image_of_the_object_counts(desk: Desk) -> None:
    source, maps = desk.image(), drawn()
    desk.take(_without_references(seg_by_ohif(source.path, {1: maps[0]})))
    assert np.array_equal(desk.masks()[1], kept(maps[0]))


def test_without_references_a_cine_needs_a_plane_for_each_frame(desk: Desk) -> None:
    source, maps = desk.image(3), drawn(3)
    full = dict(enumerate(maps, start=1))
    desk.take(_without_references(seg_by_ohif(source.path, full)))
    assert all(np.array_equal(m, kept(maps[n - 1])) for n, m in desk.masks().items())
    few = _without_references(seg_by_ohif(source.path, {2: maps[1]}, ContentCreatorName="Poe^Paul"))
    assert desk.take(few) == {Fate.NOT_USED: 1}
    assert desk.reasons() == {"does not say on which frames of the image it was drawn": 2}


def test_references_without_a_frame_number_of_a_cine_are_not_guessed(desk: Desk) -> None:
    source = desk.image(3)
    seg = seg_by_ohif(source.path, {2: drawn(1)[0]})
    for item in seg.PerFrameFunctionalGroupsSequence:
        del item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    assert desk.take(seg) == {Fate.NOT_USED: 1}


def test_what_an_algorithm_drew_alone_is_no_readers_label(desk: Desk) -> None:
    source = desk.image()
    assert desk.take(seg_by_highdicom(source.path, drawn(), algorithm="AUTOMATIC")) == {
        Fate.NOT_USED: 1
    }
    assert desk.reasons() == {"segment drawn by an algorithm alone": 2}


def test_codes_that_nobody_maps_are_listed_by_how_often_they_come(desk: Desk) -> None:
    source = desk.image()
    spleen, gallbladder = ("78961009", "SCT", "Spleen"), ("28231008", "SCT", "Gallbladder")
    desk.take(
        seg_by_highdicom(source.path, drawn(), codes=[spleen, LIVER]),
        seg_by_highdicom(source.path, drawn(), codes=[spleen, gallbladder]),
    )
    readers = desk.harvester.readers
    assert [(u.code, u.meaning, u.objects) for u in readers.notes.unmapped(readers.codes)] == [
        ("SCT:78961009", "Spleen", 2),
        ("SCT:28231008", "Gallbladder", 1),
    ]
    assert desk.reasons() == {"segment with a code that is not mapped": 2}


def test_a_former_snomed_code_is_that_of_today(desk: Desk) -> None:
    source, maps = desk.image(), drawn()
    old = [("T-62000", "SRT", "Liver"), ("T-71000", "SRT", "Kidney")]
    desk.take(seg_by_highdicom(source.path, maps, codes=old))
    assert np.array_equal(desk.masks()[1], kept(maps[0]))


def test_a_report_becomes_the_quality_of_its_frames(desk: Desk) -> None:
    source = desk.image(3)
    assert desk.take(report(source.path, {1: 4, 3: 0})) == {Fate.USED: 1, "labels": 2}
    assert desk.scores() == {1: 4, 3: 0}
    (found, _) = desk.harvester.store.readers.of(_token(desk, source))
    assert found.provenance.origin is Origin.SR
    assert found.provenance.reader == desk.harvester.key.token("reader", READER.upper())


def test_a_score_of_the_image_as_a_whole_is_of_all_its_frames(desk: Desk) -> None:
    desk.take(report(desk.image(2).path, {None: 3}))
    assert desk.scores() == {1: 3, 2: 3}


@pytest.mark.parametrize(
    ("concept", "value", "quality"),
    [
        (("111029", "DCM", "Image Quality Rating"), 75, 3),
        (("Q", "99SITE", "our quality"), 2, 2),
    ],
)
def test_other_names_of_the_quality_are_known(
    desk: Desk, concept: tuple[str, str, str], value: float, quality: int
) -> None:
    desk.take(report(desk.image().path, {1: value}, concept=concept))
    assert desk.scores() == {1: quality}


@pytest.mark.parametrize("value", [2.5, 5, -1])
def test_a_score_that_is_none_of_the_scale_is_counted_and_left(desk: Desk, value: float) -> None:
    assert desk.take(report(desk.image(2).path, {1: value, 2: 1})) == {Fate.USED: 1, "labels": 1}
    assert desk.scores() == {2: 1}
    assert desk.reasons() == {"a score that is no whole number from 0 to 4": 1}


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "-inf"])
def test_a_score_that_is_not_finite_costs_itself_only(desk: Desk, value: str) -> None:
    made = report(desk.image(2).path, {1: 4, 2: 1})
    [first, *_] = [one for one in content_items(made) if one.ValueType == "NUM"]
    # DS would refuse some of them as it is written
    first.MeasuredValueSequence[0].add_new("NumericValue", "LO", value)
    assert desk.take(made) == {Fate.USED: 1, "labels": 1}
    assert desk.scores() == {2: 1}
    assert desk.reasons() == {"a score that is no whole number from 0 to 4": 1}


@pytest.mark.parametrize("number", ["x", "1.5", "nan"])
def test_a_score_of_a_frame_whose_number_is_none_costs_itself_only(desk: Desk, number: str) -> None:
    made = report(desk.image(2).path, {1: 4, 2: 1})
    [first, *_] = [one for one in content_items(made) if one.ValueType == "IMAGE"]
    # IS would refuse them as it is written
    first.ReferencedSOPSequence[0].add_new("ReferencedFrameNumber", "LO", number)
    assert desk.take(made) == {Fate.USED: 1, "labels": 1}
    assert desk.scores() == {2: 1}
    assert desk.reasons() == {"a score of a frame whose number is none": 1}


SCORE = ("LEN", "99SITE", "Length")
RATING = ("111029", "DCM", "Image Quality Rating")
GOOD, MALIGNANT = ("122741", "DCM", "Good"), ("21594007", "SCT", "Malignant")


def test_an_answer_is_a_quality_where_that_was_asked_for(desk: Desk) -> None:
    source, cooperation = desk.image(), ("COOP", "99SITE", "Cooperation")
    made = report(source.path, {1: 9}, concept=SCORE, answers=[(cooperation, GOOD)])
    assert desk.take(made) == {Fate.NOT_USED: 1}
    desk.take(report(source.path, {1: 9}, concept=SCORE, answers=[(RATING, GOOD)]))
    assert desk.scores() == {1: 3}


def test_an_answer_that_the_site_maps_is_the_class_of_the_frame(desk: Desk) -> None:
    finding = ("FIND", "99SITE", "Finding")
    desk.take(report(desk.image().path, {1: 2}, answers=[(finding, MALIGNANT)]))
    (frame,) = desk.harvester.store.frames(labelled=Task.CLASSIFICATION)
    assert (frame.class_set, frame.class_name, frame.quality) == ("breast", "malignant", 2)


def test_a_later_report_of_the_same_reader_supersedes_also_when_it_comes_first(desk: Desk) -> None:
    source = desk.image(3)
    desk.take(report(source.path, {1: 1, 2: 1}, **said_at("20260102")))
    desk.take(report(source.path, {1: 4, 3: 4}, **said_at("20260101")))
    assert desk.scores() == {1: 1, 2: 1}


def test_a_report_of_a_device_is_no_readers_until_somebody_verifies_it(desk: Desk) -> None:
    source = desk.image()
    assert desk.take(report(source.path, {1: 3}, person=None)) == {Fate.NOT_USED: 1}
    assert any("names no person" in reason for reason in desk.reasons())
    signed = report(source.path, {1: 3}, person=None, VerificationFlag="VERIFIED")
    observer = FileDataset("", {})
    observer.VerifyingObserverName = READER
    signed.VerifyingObserverSequence = [observer]
    assert desk.take(signed) == {Fate.USED: 1, "labels": 1}


def _ours(folder: Path, source: Instance) -> Iterator[Path]:
    analysis: Analysis = analysis_of(source.path)
    for result in write_each(analysis, folder):
        yield result.path


def test_what_this_program_made_never_becomes_a_label(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    source = desk.image(3)
    ours = [instance_of(path) for path in _ours(tmp_path / "results", source)]
    assert {READER_OBJECTS[one.sop_class_uid] for one in ours} == {Origin.SEG, Origin.SR}
    assert desk.take(*ours) == {Fate.OURS: 2}
    assert desk.harvester.store.readers.of(_token(desk, source)) == []
    assert INSTALLATION.manufacturer == OUR_NAME


@pytest.mark.parametrize("sign", ["manufacturer", "equipment"])
def test_one_sign_of_this_program_is_enough(desk: Desk, tmp_path: Path, sign: str) -> None:
    (tmp_path / "results").mkdir()
    source = desk.image()
    for path in _ours(tmp_path / "results", source):
        made = dcmread(path)
        if sign == "equipment":
            made.Manufacturer = "Archive Works"
        else:
            del made.ContributingEquipmentSequence
        for number, item in enumerate(made.get("SegmentSequence", ()), start=1):
            item.SegmentAlgorithmType = "MANUAL"
            item.SegmentNumber = number
        made.SOPInstanceUID = generate_uid()
        assert desk.take(made) == {Fate.OURS: 1}


def test_an_object_that_the_node_remembers_as_its_own_is_left(desk: Desk) -> None:
    source = desk.image()
    seg = desk.came(seg_by_highdicom(source.path, drawn()))
    counts = desk.harvester.readers.take(
        [seg], find=desk.images.get, is_ours=lambda uid: uid == seg.sop_instance_uid
    )
    assert counts == {Fate.OURS: 1}


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda seg: seg.__delattr__("PixelData"), "no Pixel Data"),
        (lambda seg: seg.__setattr__("NumberOfFrames", 7), "functional groups of"),
        (lambda seg: seg.__setattr__("SegmentationType", "SURFACE"), "none of BINARY"),
        (lambda seg: seg.__setattr__("PhotometricInterpretation", "RGB"), "in colour"),
        (lambda seg: seg.__setattr__("SegmentSequence", []), "says nothing"),
        (
            lambda seg: seg.PerFrameFunctionalGroupsSequence[0].__delattr__(
                "SegmentIdentificationSequence"
            ),
            "names no segment",
        ),
    ],
)
def test_an_object_that_cannot_be_used_costs_itself_only_and_says_why(
    desk: Desk, break_it: Callable[[FileDataset], None], why: str
) -> None:
    source, maps = desk.image(), drawn()
    broken = seg_by_ohif(source.path, {1: maps[0]})
    break_it(broken)
    good = seg_by_highdicom(source.path, maps)
    assert desk.take(desk.came(good), desk.came(broken)) == {
        Fate.USED: 1,
        Fate.NOT_USED: 1,
        "labels": 1,
    }
    assert any(why in reason for reason in desk.reasons())
    assert np.array_equal(desk.masks()[1], kept(maps[0]))


def test_bytes_that_are_no_object_cost_themselves_only(desk: Desk) -> None:
    seg = desk.came(seg_by_highdicom(desk.image().path, drawn()))
    seg.path.write_bytes(b"nothing")
    assert desk.take(seg) == {Fate.NOT_USED: 1}
    assert desk.reasons() == {"not readable as DICOM (InvalidDicomError)": 1}


def test_a_csv_stands_beside_the_objects_with_the_same_provenance(
    desk: Desk, tmp_path: Path
) -> None:
    source, maps = desk.image(2), drawn(2)
    desk.take(report(source.path, {1: 4, 2: 4}, **said_at("20260101")))
    mask = tmp_path / "mask.png"
    Image.fromarray(maps[0]).save(mask)
    table = tmp_path / "labels.csv"
    table.write_text(
        "sop_instance_uid,frame,quality,mask,reader\n"
        f"{source.sop_instance_uid},1,2,mask.png,{READER}\n"
    )
    harvester = desk.harvester
    count = attach_labels(
        table, store=harvester.store, key=harvester.key, notes=harvester.readers.notes
    )
    assert (count.imported, count.faults) == (1, ())
    # a row speaks of its frame alone
    assert desk.scores() == {1: 2, 2: 4}
    said = harvester.store.readers.of(_token(desk, source))
    assert [one.provenance.origin for one in said].count(Origin.CSV) == 2
    assert {one.provenance.reader for one in said} == {
        harvester.key.token("reader", READER.upper())
    }
    # made before the import, comes after it
    desk.take(report(source.path, {1: 0}, person="Poe^Paul", **said_at("20260103")))
    assert desk.scores() == {1: 2, 2: 4}
    assert audit(tmp_path / "data" / "store") == []


def test_the_notes_of_a_study_can_be_erased(desk: Desk) -> None:
    source = desk.image()
    seg = desk.came(seg_by_highdicom(source.path, drawn(), codes=[LIVER, ("1", "99X", "y")]))
    desk.take(seg)
    readers = desk.harvester.readers
    study = desk.harvester.key.token("study", seg.study_instance_uid)
    assert readers.notes.erase([study]) == 1
    assert readers.notes.objects() == []
    assert readers.notes.unmapped(readers.codes) == []
    assert readers.notes.order(source.sop_instance_uid) == []


@pytest.mark.parametrize("patient", ["MRN-1", ""])
def test_of_a_refused_patients_objects_nothing_is_noted(
    desk: Desk, tmp_path: Path, patient: str
) -> None:
    source, data = desk.image(PatientID=patient), tmp_path / "data"
    unmapped = ("1", "99X", "what somebody typed")
    seg = desk.came(seg_by_highdicom(source.path, drawn(), codes=[LIVER, unmapped]))
    assert desk.take(seg) == {Fate.USED: 1, "labels": 1}
    with erasing_patient(patient or source.study_instance_uid, data=data) as erasure:
        erasure.run(refuse=True)
    later = desk.came(report(source.path, {1: 3}))
    assert desk.take(seg, later) == {Fate.REFUSED: 2}
    assert desk.harvester.readers.notes.objects() == []
    written = b"".join(path.read_bytes() for path in data.glob("harvest.db*"))
    for secret in (source.sop_instance_uid, source.study_instance_uid, seg.sop_instance_uid):
        assert secret.encode() not in written
    assert b"what somebody typed" not in written
    other = desk.image(PatientID="MRN-2", seed=1)
    assert desk.take(seg_by_highdicom(other.path, drawn())) == {Fate.USED: 1, "labels": 1}


def _token(desk: Desk, source: Instance) -> str:
    return desk.harvester.key.token("instance", source.sop_instance_uid)


def _turn(seg: FileDataset, orientation: list[float]) -> None:
    plane = FileDataset("", {})
    plane.ImageOrientationPatient = orientation
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [plane]
