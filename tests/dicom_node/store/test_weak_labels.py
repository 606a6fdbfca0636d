import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.records import Box, Geometry, Task
from dicom_node.store import SPLITS, NewFrame, WeakLabelStore, audit, split_of
from tests.support.catalogues import edit
from tests.support.frames import new_frame, speckle
from tests.support.labels import say

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WeakLabelStore]:
    with WeakLabelStore(tmp_path / "store") as store:
        yield store


def _patient(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def test_a_frame_comes_back_as_it_went_in(store: WeakLabelStore) -> None:
    frame = new_frame(
        probe="C5-1",
        geometry=Geometry.CURVILINEAR,
        groups=frozenset({"liver", "abdomen"}),
        spacing_mm=(0.25, 0.5),
        burned_in_annotation=False,
    )
    frame_id = store.add_frame(frame)
    (stored,) = store.frames()
    assert stored.frame_id == frame_id
    assert np.array_equal(store.pixels(frame_id), frame.pixels)
    assert (stored.probe, stored.geometry, stored.spacing_mm) == (
        "C5-1",
        Geometry.CURVILINEAR,
        (0.25, 0.5),
    )
    assert stored.groups == {"liver", "abdomen"}
    assert (stored.height, stored.width, stored.frame_number) == (40, 60, 1)
    assert (stored.quality, stored.has_mask, stored.burned_in_annotation) == (None, False, False)


def test_the_same_frame_twice_is_stored_once(store: WeakLabelStore) -> None:
    first, version = store.add_frame(new_frame()), store.version()
    assert store.add_frame(new_frame()) == first
    assert (len(store.frames()), store.version()) == (1, version)


def test_equal_pixels_of_another_instance_keep_their_first_patient(store: WeakLabelStore) -> None:
    first = store.add_frame(new_frame())
    again = new_frame(instance="e" * 32, patient="f" * 32)
    assert store.add_frame(again) == first
    (stored,) = store.frames()
    assert stored.patient == "a" * 32
    assert store.crop_of("e" * 32) == again.crop
    say(store, "e" * 32, 1, quality=3)
    assert store.frames()[0].quality == 3


def test_a_picture_and_the_names_that_lead_to_it_are_durable_before_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def added(store: WeakLabelStore, frame: NewFrame) -> list[int]:
        """Return what was synced, without the file, which comes first, and its subfolder."""
        synced.clear()
        path = tmp_path / "frames" / frame.frame_id[:2] / f"{frame.frame_id}.png"
        store.add_frame(frame)
        assert synced[0] == path.stat().st_ino
        synced.remove(path.parent.stat().st_ino)
        return synced[1:]

    monkeypatch.setattr(os, "fsync", watched)
    of_folder: dict[str, list[NewFrame]] = {}
    for number in range(1, 600):  # of so many three lie in one of 256 subfolders
        frame = new_frame(seed=number, frame_number=number)
        of_folder.setdefault(frame.frame_id[:2], []).append(frame)
    first, second, third, *_ = max(of_folder.values(), key=len)
    with WeakLabelStore(tmp_path) as store:
        above = added(store, first)
        assert above == [(tmp_path / "frames").stat().st_ino]
        assert added(store, second) == []
    with WeakLabelStore(tmp_path) as store:  # who made the subfolder may have died over it
        assert added(store, third) == above


def test_other_pixels_under_the_same_frame_number_are_refused(store: WeakLabelStore) -> None:
    store.add_frame(new_frame(seed=0))
    with pytest.raises(StoreError, match="share one SOP Instance UID"):
        store.add_frame(new_frame(seed=1))


def test_a_frame_of_another_size_is_refused_within_a_clip(store: WeakLabelStore) -> None:
    store.add_frame(new_frame(frame_number=1))
    other = new_frame(frame_number=2, pixels=speckle(33, 47, seed=2))
    with pytest.raises(
        StoreError, match=r"frame 2: stored with other pixels; .* correct the source"
    ):
        store.add_frame(other)


def test_labels_attach_to_the_frame_and_move_the_version(store: WeakLabelStore) -> None:
    frame_id, before = store.add_frame(new_frame()), store.version()
    mask = (speckle(seed=5) > 128).astype(np.uint8)
    say(store, "d" * 32, 1, quality=4)
    say(store, "d" * 32, 1, mask=mask)
    (stored,) = store.frames(labelled=Task.SEGMENTATION)
    assert (stored.quality, stored.has_mask) == (4, True)
    assert np.array_equal(store.mask(frame_id), mask)
    assert store.frames(labelled=Task.QUALITY) == [stored]
    assert store.version() != before


def test_label_set_and_class_come_back_and_move_the_version(store: WeakLabelStore) -> None:
    store.add_frame(new_frame())
    versions = {store.version()}
    mask = np.ones((40, 60), np.uint8)
    for fields in (
        {"mask": mask},
        {"mask": mask, "labels": "fetal-head"},
        {"class_name": "breast/normal"},
        {"class_name": "breast/benign"},
    ):
        say(store, "d" * 32, 1, **fields)
        versions.add(store.version())
    assert len(versions) == 5
    (stored,) = store.frames(labelled=Task.CLASSIFICATION)
    assert (stored.label_set, stored.class_set, stored.class_name) == (
        "fetal-head",
        "breast",
        "benign",
    )


def test_a_listing_is_the_frames_with_their_version(store: WeakLabelStore) -> None:
    store.add_frame(new_frame())
    listing = store.listing()
    assert list(listing.frames) == store.frames()
    assert listing.version == store.version()


def before_label_sets(folder: Path) -> None:
    """Take from a store what an older version of it did not have."""
    columns = ("label_set", "class_set", "class_name")
    edit(
        folder,
        "DROP INDEX IF EXISTS frames_with_class_name",
        *(f"ALTER TABLE frames DROP COLUMN {column}" for column in columns),
    )


def test_a_store_from_before_label_sets_opens_and_its_masks_are_liver_and_kidney(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "store"
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(seed=1, frame_number=1))
        store.add_frame(new_frame(seed=2, frame_number=2))
        say(store, "d" * 32, 1, mask=np.ones((40, 60), np.uint8))
        version = store.version()
    before_label_sets(folder)
    together = Barrier(4)

    def open_it(_: int) -> list[str | None]:
        together.wait(10)
        with WeakLabelStore(folder) as store:
            return [frame.label_set for frame in store.frames()]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(open_it, range(4))) == [["liver-kidney", None]] * 4
    with WeakLabelStore(folder) as store:
        assert store.version() == version
        say(store, "d" * 32, 2, class_name="lung/regular")
    assert audit(folder) == []


def test_frames_from_before_time_was_kept_have_none(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(number_of_frames=9, frame_time_s=0.1))
    columns = ("number_of_frames", "frame_time_s")
    edit(folder, *(f"ALTER TABLE instances DROP COLUMN {column}" for column in columns))
    with WeakLabelStore(folder) as store:
        (old,) = store.frames()
        assert (old.time_s, old.number_of_frames) == (None, None)
        newer = new_frame(seed=1, instance="e" * 32, frame_number=3, frame_time_s=0.1)
        store.add_frame(newer)
        assert [frame.time_s for frame in store.frames()] == [None, pytest.approx(0.2)]


def test_a_store_from_before_frames_were_counted_counts_them(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with WeakLabelStore(folder) as store:
        for number in range(1, 4):
            store.add_frame(new_frame(seed=number, frame_number=number))
        counts = store.label_counts()
    edit(
        folder,
        "DROP INDEX instances_by_labels_counted",
        "ALTER TABLE instances DROP COLUMN stored_frames",
        "CREATE INDEX instances_by_labels ON instances (geometry, instance)",
    )
    with WeakLabelStore(folder) as store:
        assert store.label_counts() == counts
        assert [one.frames for one in counts] == [3]
    assert audit(folder) == [], "the former index is gone"


def test_a_mask_of_an_older_node_beside_this_one_is_of_liver_and_kidney(
    store: WeakLabelStore, tmp_path: Path
) -> None:
    store.add_frame(new_frame())
    say(store, "d" * 32, 1, mask=np.ones((40, 60), np.uint8))
    edit(tmp_path / "store", "UPDATE frames SET label_set = NULL")
    assert store.frames()[0].label_set == "liver-kidney"


def test_a_label_that_does_not_fit_is_refused(store: WeakLabelStore) -> None:
    store.add_frame(new_frame())
    with pytest.raises(StoreError, match="quality 5"):
        say(store, "d" * 32, 1, quality=5)
    with pytest.raises(StoreError, match="the mask is"):
        say(store, "d" * 32, 1, mask=np.zeros((3, 3), np.uint8))
    with pytest.raises(StoreError, match="value 3; the label set liver-kidney has 0 background, 1"):
        say(store, "d" * 32, 1, mask=np.full((40, 60), 3, np.uint8))
    with pytest.raises(StoreError, match="no class set of this name; there are breast, lung"):
        say(store, "d" * 32, 1, quality=1, class_name="Doe^Jane/benign")
    assert store.frames()[0].quality is None
    with pytest.raises(StoreError, match="harvest it first"):
        say(store, "d" * 32, 2, quality=1)
    with pytest.raises(StoreError, match="harvest it first"):
        store.crop_of("e" * 32)


def test_the_version_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    names = []
    for seeds in ((1, 2, 3), (3, 1, 2)):
        with WeakLabelStore(tmp_path / str(seeds)) as store:
            for seed in seeds:
                store.add_frame(new_frame(seed=seed, frame_number=seed))
            names.append(store.version())
    assert names[0] == names[1]


def test_a_patient_is_in_one_split_and_the_shares_are_kept() -> None:
    splits = [split_of(_patient(number)) for number in range(4000)]
    shares = {split: splits.count(split) / len(splits) for split in SPLITS}
    assert shares == pytest.approx({"train": 0.70, "validation": 0.15, "test": 0.15}, abs=0.02)
    assert splits == [split_of(_patient(number)) for number in range(4000)]


def test_frames_can_be_asked_for_by_split(store: WeakLabelStore) -> None:
    for number in range(12):
        token = _patient(number)
        store.add_frame(new_frame(seed=number, patient=token, study=token, instance=token))
    by_split = {split: store.frames(split=split) for split in SPLITS}
    assert sum(len(found) for found in by_split.values()) == 12
    assert all(f.split == split == split_of(f.patient) for split in SPLITS for f in by_split[split])
    with pytest.raises(StoreError, match="no split"):
        store.frames(split="holdout")


def test_info_counts_what_is_there(store: WeakLabelStore, tmp_path: Path) -> None:
    store.add_frame(new_frame(seed=0, geometry=Geometry.LINEAR, groups=frozenset({"thyroid"})))
    store.add_frame(new_frame(seed=1, frame_number=2, geometry=Geometry.LINEAR))
    say(store, "d" * 32, 2, quality=0)
    info = store.info()
    assert (info.frames, info.instances, info.patients) == (2, 1, 1)
    assert info.burned_in_annotation == 2
    assert info.by_geometry[Geometry.LINEAR] == 2
    assert info.labelled == {Task.SEGMENTATION: 0, Task.QUALITY: 1, Task.CLASSIFICATION: 0}
    assert (info.by_label_set, info.by_class) == ({}, {})
    say(store, "d" * 32, 1, mask=np.ones((40, 60), np.uint8), class_name="lung/covid")
    info = store.info()
    assert info.labelled[Task.CLASSIFICATION] == info.labelled[Task.SEGMENTATION] == 1
    assert (info.by_label_set, info.by_class) == ({"liver-kidney": 1}, {"lung/covid": 1})
    denied = new_frame(seed=2, instance="e" * 32, burned_in_annotation=False)
    store.add_frame(denied)
    info = store.info()
    assert (info.frames, info.burned_in_annotation) == (3, 2)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.png"))
    assert info.size_bytes == on_disk > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"patient": "Doe^Jane"},
        {"study": "1.2.840.113619.2.1"},
        {"probe": "DOE JANE"},
        {"probe": "20200131"},
        {"probe": "1.2.840.10008"},
        {"description": "US LIVER"},
        {"geometry_rule": "Dr. Doe"},
        {"groups": frozenset({"heart"})},
        {"frame_number": 0},
        {"crop": Box(left=0, top=0, right=60, bottom=41)},
        {"rows": 40},
    ],
)
def test_what_could_identify_or_does_not_fit_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(StoreError):
        new_frame(**fields)


def test_a_disk_that_does_not_take_the_frame_is_a_passing_error(
    store: WeakLabelStore, tmp_path: Path
) -> None:
    (tmp_path / "store" / "frames").write_text("in the way")
    with pytest.raises(TemporaryError, match="cannot be written"):
        store.add_frame(new_frame())
    assert store.frames() == []


def test_a_damaged_picture_is_named_not_returned(store: WeakLabelStore, tmp_path: Path) -> None:
    frame_id = store.add_frame(new_frame())
    (path,) = (tmp_path / "store" / "frames").rglob("*.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(StoreError, match="store audit"):
        store.pixels(frame_id)


def test_only_the_owner_can_open_the_store(
    store: WeakLabelStore, tmp_path: Path, engine: str
) -> None:
    store.add_frame(new_frame())
    folder = tmp_path / "store"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    name = "catalogue.db" if engine == "sqlite" else "catalogue.json"
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_several_writers_share_one_store(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    WeakLabelStore(folder).close()
    together = Barrier(4)

    def write(_: int) -> list[str]:
        together.wait(10)
        with WeakLabelStore(folder) as store:
            return [store.add_frame(new_frame(seed=n, frame_number=n)) for n in range(1, 9)]

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(write, range(4)))
    assert ids[0] == ids[1] == ids[2] == ids[3]
    with WeakLabelStore(folder) as store:
        assert [frame.frame_id for frame in store.frames()] == ids[0]
    assert audit(folder) == []
