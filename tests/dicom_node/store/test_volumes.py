import sqlite3
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.store import WeakLabelStore, audit
from dicom_node.store.volumes import FOLDER, version
from tests.support.slices import new_volume


def test_a_volume_comes_out_as_it_went_in(tmp_path: Path) -> None:
    new = new_volume()
    with WeakLabelStore(tmp_path) as store:
        assert store.volumes.put(new)
        assert store.volumes.put(new)  # again
        [stored] = store.volumes.all()
        assert (stored.labels, stored.volume_id) == (new.labels, new.volume_id)
        assert store.volumes.of_series(new.series) == stored
        np.testing.assert_array_equal(store.volumes.voxels(stored.volume_id), new.voxels)
        assert store.volumes.of_series("0" * 31 + "9") is None
    assert audit(tmp_path) == []


def test_a_volume_that_is_dropped_leaves_neither_row_nor_picture(tmp_path: Path) -> None:
    new, other = new_volume(), new_volume(seed=1)
    with WeakLabelStore(tmp_path) as store:
        store.volumes.put(new)
        store.volumes.put(other)
        assert not store.volumes.drop(new.series, study="0" * 32)  # of another study
        assert store.volumes.drop(new.series, study=new.study)
        assert not store.volumes.drop(new.series, study=new.study)  # again
        assert [one.series for one in store.volumes.all()] == [other.series]
    assert [path.stem for path in (tmp_path / FOLDER).rglob("*.png")] == [other.volume_id]
    assert audit(tmp_path) == []


def test_a_volume_whose_picture_cannot_be_deleted_keeps_its_row(tmp_path: Path) -> None:
    new = new_volume()
    with WeakLabelStore(tmp_path) as store:
        store.volumes.put(new)
        [path] = (tmp_path / FOLDER).rglob("*.png")
        path.unlink()
        path.mkdir()  # no file, whoever asks
        with pytest.raises(TemporaryError, match="cannot be deleted"):
            store.volumes.drop(new.series, study=new.study)
        assert [one.series for one in store.volumes.all()] == [new.series]
        path.rmdir()
        assert store.volumes.drop(new.series, study=new.study)


def test_the_version_is_that_of_volumes_and_labels(tmp_path: Path) -> None:
    with WeakLabelStore(tmp_path) as store:
        frames = store.version()
        store.volumes.put(new_volume())
        first = version(store.volumes.all())
        store.volumes.relabel(new_volume().series, new_volume(contrast=False).labels)
        second = version(store.volumes.all())
        store.volumes.relabel(new_volume().series, new_volume().labels)
        assert (version(store.volumes.all()), second != first) == (first, True)
        assert store.version() == frames


@pytest.mark.parametrize(
    "fields",
    [
        {"patient": "DOE^JANE"},
        {"made_of": "1.2.3"},
        {"sequence": "PD"},
        {"plane": "OBL"},
        {"sequence_rule": "T1 of Jane Doe"},
        {"regions": frozenset({"Foot"})},
        {"regions": frozenset({"Liver"})},  # shown, and not known
        {"slice_spacing_mm": 0.0},
        {"voxels": np.zeros((48, 192, 192), np.int16)},
        {"voxels": np.zeros((48, 192, 191), np.uint8)},
    ],
)
def test_what_is_no_volume_of_the_store_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="does not go into the store"):
        new_volume(**fields)


def test_a_damaged_volume_is_said(tmp_path: Path) -> None:
    with WeakLabelStore(tmp_path) as store:
        store.volumes.put(new_volume())
        [path] = (tmp_path / FOLDER).rglob("*.png")
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(StoreError, match="store audit"):
            store.volumes.voxels(new_volume().volume_id)
    assert [finding.where.split("/")[0] for finding in audit(tmp_path)] == ["file volumes"]


def test_words_and_numbers_that_do_not_belong_are_found(tmp_path: Path) -> None:
    with WeakLabelStore(tmp_path) as store:
        store.volumes.put(new_volume())
    connection = sqlite3.connect(tmp_path / "catalogue.db")
    connection.execute("UPDATE volumes SET plane = 'Jane', number_of_slices = 19700101")
    connection.execute("UPDATE volumes SET regions_rule = 'jane doe'")
    connection.commit()
    connection.close()
    assert len(audit(tmp_path)) == 2
    assert len(audit(tmp_path, {"regions_rule": lambda word: word == "none"})) == 3
