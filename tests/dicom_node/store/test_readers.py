from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from dicom_node.errors import StoreError
from dicom_node.records import Task
from dicom_node.store import QUALITY, Origin, Provenance, Reading, WeakLabelStore, audit
from dicom_node.store.catalogue import frames, instances, open_catalogue, sightings
from dicom_node.store.readers import readings
from tests.support.catalogues import edit
from tests.support.frames import new_frame, speckle

pytestmark = pytest.mark.usefixtures("engine")

INSTANCE = "d" * 32
MASK = (speckle() % 3).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[WeakLabelStore]:
    with WeakLabelStore(folder) as store:
        for number in (1, 2):
            store.add_frame(new_frame(seed=number, frame_number=number))
        yield store


def by(name: str, reader: str = "e") -> Provenance:
    return Provenance(reader=reader * 32, object=name * 32, origin=Origin.SEG)


def mask(frame: int, pixels: np.ndarray = MASK) -> Reading:
    return Reading(frame_number=frame, about="liver-kidney", mask=pixels, labels=frozenset({1, 2}))


def score(frame: int, value: int) -> Reading:
    return Reading(frame_number=frame, about=QUALITY, value=value)


def scores(store: WeakLabelStore) -> list[int | None]:
    return [frame.quality for frame in store.frames()]


def test_what_is_heard_stands_in_the_frames_and_everything_beside_it(
    store: WeakLabelStore, folder: Path
) -> None:
    benign = Reading(frame_number=1, about="breast", value=0)
    store.readers.put(INSTANCE, by("1"), [mask(1), score(1, 3), benign])
    store.readers.put(INSTANCE, by("2", reader="f"), [score(1, 1)])
    (frame, bare) = store.frames()
    assert (frame.quality, frame.label_set, frame.class_name) == (1, "liver-kidney", "benign")
    assert np.array_equal(store.mask(frame.frame_id), MASK)
    assert (bare.quality, bare.has_mask) == (None, False)
    assert len(store.readers.of(INSTANCE)) == 4
    assert audit(folder) == []


def test_an_object_that_says_nothing_any_more_leaves_nothing(
    store: WeakLabelStore, folder: Path
) -> None:
    empty = store.version()
    store.readers.put(INSTANCE, by("1"), [mask(1), score(2, 3)])
    assert store.version() != empty
    store.readers.put(INSTANCE, by("1"), [])
    assert store.version() == empty
    assert store.frames(labelled=Task.SEGMENTATION) == []
    assert audit(folder) == []


def test_an_object_that_only_adds_keeps_what_it_said_of_other_kinds(store: WeakLabelStore) -> None:
    store.readers.put(INSTANCE, by("1"), [score(1, 3)])
    store.readers.put(INSTANCE, by("1"), [mask(1)], adds=True)
    store.readers.put(INSTANCE, by("1"), [score(1, 2)], adds=True)
    frame = store.frames()[0]
    assert (frame.quality, frame.has_mask) == (2, True)
    assert len(store.readers.of(INSTANCE)) == 2


def test_the_order_of_the_objects_decides_and_not_that_of_the_calls(store: WeakLabelStore) -> None:
    order = ["1" * 32, "2" * 32]
    store.readers.put(INSTANCE, by("2"), [score(1, 2)], order=order[1:])
    store.readers.put(INSTANCE, by("1"), [score(1, 1)], order=order)
    assert scores(store) == [2, None]
    assert [one.place for one in store.readers.of(INSTANCE)] == [1, 2]
    assert store.readers.superseded() == {"1" * 32}


def test_without_an_order_the_call_counts(store: WeakLabelStore) -> None:
    for name, value in (("2", 2), ("1", 1)):
        store.readers.put(INSTANCE, by(name), [score(1, value)])
    assert scores(store) == [1, None]


def test_labels_from_before_readers_were_kept_stay_where_nobody_read(
    store: WeakLabelStore, folder: Path
) -> None:
    engine = open_catalogue(folder)
    with engine.begin() as connection:
        connection.execute(frames.update().values(quality=4))
    engine.dispose()
    store.readers.put(INSTANCE, by("1"), [mask(1), score(2, 0)])
    assert scores(store) == [4, 0]


def test_what_is_said_of_the_same_pixels_elsewhere_is_heard_where_nothing_else_is(
    store: WeakLabelStore,
) -> None:
    store.add_frame(new_frame(seed=1, instance="9" * 32, patient="8" * 32))
    store.readers.put("9" * 32, by("1"), [score(1, 1)])
    assert scores(store) == [1, None]
    store.readers.put(INSTANCE, by("2"), [score(1, 2)])
    assert scores(store) == [2, None]
    store.readers.put(INSTANCE, by("2"), [])
    assert scores(store) == [1, None]


@pytest.mark.parametrize(
    ("reading", "fault"),
    [
        (score(3, 1), "frame 3 of the instance is not stored"),
        (score(1, 5), "quality 5 is not 0 to 4"),
        (Reading(frame_number=1, about="breast", value=3), "breast 3 is not 0 to 2"),
        (mask(1, MASK[:5]), "the mask is uint8 (5, 60), the frame uint8 (40, 60)"),
        (
            mask(1, MASK + np.uint8(9)),
            "the mask holds the value 11; the label set liver-kidney has 0 background, 1 liver",
        ),
    ],
)
def test_a_reading_that_does_not_fit_is_refused_and_changes_nothing(
    store: WeakLabelStore, reading: Reading, fault: str
) -> None:
    version = store.version()
    with pytest.raises(StoreError) as caught:
        store.readers.put(INSTANCE, by("1"), [score(2, 1), reading])
    assert fault in str(caught.value)
    assert store.version() == version
    assert store.readers.of(INSTANCE) == []


def test_readings_go_with_their_instance(store: WeakLabelStore, folder: Path) -> None:
    store.readers.put(INSTANCE, by("1"), [mask(1), score(2, 3)])
    engine = open_catalogue(folder)
    with engine.begin() as connection:
        connection.execute(sightings.delete())
        connection.exec_driver_sql("DELETE FROM frames")
        connection.execute(instances.delete().where(instances.c.instance == INSTANCE))
        assert connection.scalar(sa.select(sa.func.count()).select_from(readings)) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("column", "planted"),
    [
        ("reader", "DOE^JANE"),
        ("object", "1.2.840.1"),
        ("software", "Dr Doe's tool"),
        ("about", "doe"),
        ("mask_png", "DOE^JANE"),
    ],
)
def test_a_name_among_the_readings_is_found(
    store: WeakLabelStore, folder: Path, column: str, planted: str
) -> None:
    store.readers.put(INSTANCE, by("1"), [mask(1)])
    value = "CAST(:planted AS TEXT)" if column != "mask_png" else "'DOE^JANE'"
    edit(folder, f"UPDATE readings SET {column} = {value}", planted=planted)  # noqa: S608
    (finding,) = audit(folder)
    assert finding.where.endswith(f" readings.{column}, row 1")


def test_words_behind_a_mask_are_found(store: WeakLabelStore, folder: Path, engine: str) -> None:
    store.readers.put(INSTANCE, by("1"), [mask(1)])
    blob = "BLOB" if engine == "sqlite" else "BYTEA"
    longer = f"CAST(mask_png || CAST('DOE' AS {blob}) AS {blob})"
    edit(folder, f"UPDATE readings SET mask_png = {longer}")  # noqa: S608
    (finding,) = audit(folder)
    assert finding.where.endswith(" readings.mask_png, row 1")
