import pickle
import sqlite3
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.records import Geometry, Task
from dicom_node.store import StoredFrame, WeakLabelStore, open_store
from tests.support.accounts import as_another, lock, shared
from tests.support.frames import new_frame, speckle
from tests.support.packs import Still, filled, patients, pseudonym

TRAIN, TEST = patients("train", 1)[0], patients("test", 1)[0]
LIVER, BOTH = frozenset({"liver"}), frozenset({"liver", "kidney"})


def _still(
    patient: str, geometry: Geometry, groups: frozenset[str], *, text: bool = True, **label: object
) -> Still:
    fields = {"geometry": geometry, "groups": groups, "burned_in_annotation": text}
    return Still(patient=patient, fields=fields, label=label)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stills = [
        _still(TRAIN, Geometry.CURVILINEAR, LIVER),
        _still(TRAIN, Geometry.CURVILINEAR, BOTH, text=False, quality=2),
        _still(TRAIN, Geometry.LINEAR, frozenset({"thyroid"})),
        _still(TEST, Geometry.PHASED, frozenset({"kidney"}), quality=0),
        _still(TEST, Geometry.LINEAR, frozenset()),
    ]
    return filled(tmp_path / "store", stills)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"group": "liver"}, {0, 1}),
        ({"group": ["kidney", "thyroid"]}, {1, 2, 3}),
        ({"geometry": "linear"}, {2, 4}),
        ({"geometry": [Geometry.LINEAR, Geometry.PHASED]}, {2, 3, 4}),
        ({"split": "test"}, {3, 4}),
        ({"labelled": Task.QUALITY}, {1, 3}),
        ({"group": "kidney", "split": "train", "labelled": Task.QUALITY}, {1}),
        ({"group": "chest"}, set()),
        ({"burned_in_annotation": False}, {1}),
        ({"burned_in_annotation": True, "geometry": "linear"}, {2, 4}),
    ],
)
def test_frames_are_chosen_by_their_labels(
    folder: Path, words: dict[str, object], seeds: set[int]
) -> None:
    with open_store(folder) as store:
        chosen = store.where(**words)  # type: ignore[arg-type]
        found = {frame.instance for frame in chosen.frames()}
        assert found == {pseudonym(f"instance {seed}") for seed in seeds}
        assert len(chosen) == len(seeds)
        assert chosen.frame_ids() == [frame.frame_id for frame in chosen.frames()]


def test_a_choice_can_be_narrowed(folder: Path) -> None:
    with open_store(folder) as store:
        linear = store.where(geometry="linear")
        assert (len(linear), len(linear.where(group="thyroid"))) == (2, 1)


def test_pixels_come_with_what_is_known_of_them(folder: Path) -> None:
    with open_store(folder) as store:
        seen = {frame.instance: pixels for pixels, frame in store.where(group="liver")}
    assert set(seen) == {pseudonym("instance 0"), pseudonym("instance 1")}
    for number in (0, 1):
        assert np.array_equal(seen[pseudonym(f"instance {number}")], speckle(seed=number))


def test_a_frame_says_which_rule_spoke_of_its_geometry(tmp_path: Path) -> None:
    ruled = Still(patient=TRAIN, fields={"geometry_rule": "philips curved"}, label={})
    with open_store(filled(tmp_path / "ruled", [ruled])) as store:
        assert [frame.geometry_rule for frame in store.frames()] == ["philips curved"]


#: All that only reads.
_READ = """
with open_store(folder) as store:
    pixels = [pixels.shape for pixels, frame in store.where(split="train")]
    print(len(pixels), store.version(), store.info().frames, len(store.readers.of("0" * 32)))
    print(store.source_size(store.frames()[0].instance), store.evidence.verdicts())
print(len(audit(folder)))
"""


def test_a_store_that_may_only_be_read_is_read_and_nothing_is_left_beside_it(folder: Path) -> None:
    with open_store(folder) as store:
        version = store.version()
    with shared(folder) as copy:
        before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
        assert as_another(_READ, copy).splitlines() == [f"3 {version} 5 0", "(60, 90) {}", "0"]
        assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_a_store_that_somebody_harvests_into_is_read_meanwhile(folder: Path) -> None:
    with shared(folder) as copy, WeakLabelStore(copy) as store:
        store.add_frame(new_frame(seed=99, patient=TRAIN))
        lock(copy)
        assert as_another("print(len(open_store(folder).frames()))", copy) == "6"
        store.add_frame(new_frame(seed=98, patient=TRAIN, frame_number=2))


def test_a_store_that_was_copied_while_its_node_was_dead_is_read(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(seed=99, patient=TRAIN))
        with shared(folder) as copy:
            assert (copy / "catalogue.db-wal").stat().st_size
            assert as_another("print(len(open_store(folder).frames()))", copy) == "6"


def test_what_writes_to_a_store_that_may_only_be_read_is_refused_with_the_cure(
    folder: Path,
) -> None:
    code = """
        with open_store(folder) as store, store.together():
            print("written")
    """
    code_of_erasure = """
        with Erasure(folder, "a" * 32) as erasure:
            erasure.preview()
    """
    with shared(folder) as copy:
        for said in (as_another(dedent(code), copy), as_another(dedent(code_of_erasure), copy)):
            assert said.startswith("DatabaseDownError")
            assert "catalogue.db: this account may only read it; run this as" in said
            assert "chmod -R u+w" in said


def test_a_store_that_may_not_be_read_at_all_is_refused_with_the_cure(folder: Path) -> None:
    with shared(folder) as copy:
        (copy / "catalogue.db").chmod(0o600)
        said = as_another("open_store(folder)", copy)
        assert "catalogue.db: this account may not read it; as the account that owns it" in said
        copy.chmod(0o700)
        assert "this account may not look into it" in as_another("open_store(folder)", copy)


def test_an_audit_says_which_folder_it_may_not_look_into(folder: Path) -> None:
    with shared(folder) as copy:
        closed = next((copy / "frames").iterdir())
        closed.chmod(0o700)
        said = as_another("for one in audit(folder): print(one.where, one.what)", copy)
    assert f"folder frames/{closed.name} this account may not look into it" in said


@pytest.mark.parametrize("word", ["group", "geometry", "split"])
def test_a_word_that_is_not_known_says_which_there_are(folder: Path, word: str) -> None:
    with open_store(folder) as store, pytest.raises(StoreError, match=f"no {word} 'heart'; there"):
        store.where(**{word: "heart"})  # type: ignore[arg-type]


def test_a_folder_without_a_store_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no weak-label store"):
        open_store(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def _mean(pixels: np.ndarray, frame: StoredFrame) -> tuple[float, str]:
    return float(pixels.mean()), frame.split


def test_prepared_frames_are_a_sequence_that_goes_to_another_process(folder: Path) -> None:
    with open_store(folder) as store:
        prepared = store.where(split="train").prepared(_mean)
    sent = pickle.loads(pickle.dumps(prepared))  # noqa: S301
    assert len(sent) == 3
    assert list(sent) == [prepared[0], prepared[1], prepared[2]]
    for (mean, split), frame in zip(sent, sent.frames, strict=True):
        (number,) = [n for n in range(5) if pseudonym(f"instance {n}") == frame.instance]
        assert (mean, split) == (speckle(seed=number).mean(), "train")


def test_more_frames_than_a_page_come_in_order_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.store.selection.PAGE", 3)
    with WeakLabelStore(tmp_path) as store:
        for number in range(1, 9):
            store.add_frame(new_frame(seed=number, frame_number=number))
        numbers = [frame.frame_number for _, frame in store.where()]
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_store_from_before_labels_were_indexed_gets_its_indexes(folder: Path) -> None:
    with sqlite3.connect(folder / "catalogue.db") as connection:
        indexes = {"instances_by_labels_counted", "frames_with_quality"}
        for name in indexes:
            connection.execute(f"DROP INDEX {name}")
    with open_store(folder) as store:
        assert len(store.where(labelled=Task.QUALITY)) == 2
    with sqlite3.connect(folder / "catalogue.db") as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert indexes <= found
    connection.close()


def test_frames_are_counted_by_their_labels(folder: Path) -> None:
    with open_store(folder) as store:
        counts = {(c.geometry, c.split, c.groups): c.frames for c in store.label_counts()}
    assert counts[Geometry.CURVILINEAR, "train", LIVER] == 1
    assert sum(counts.values()) == len(counts) == 5
