import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dicom_node.errors import StoreError
from dicom_node.store import WeakLabelStore, audit
from dicom_node.store.audit import LOST
from tests.support.frames import new_frame, speckle
from tests.support.labels import say


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a store with a frame, a mask and a quality."""
    folder = tmp_path / "store"
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(probe="L12-5", description="9" * 32))
        mask = np.ones((40, 60), np.uint8)
        say(store, "d" * 32, 1, quality=2, mask=mask, class_name="breast/benign")
    return folder


def _edit(folder: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(folder / "catalogue.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_a_store_that_was_only_used_is_clean(folder: Path) -> None:
    assert audit(folder) == []


@pytest.mark.parametrize("planted", ["DOE^JANE", "20200131", "1.2.840.113619.2.21.848", "Jane Doe"])
@pytest.mark.parametrize("column", ["probe", "study", "description", "geometry_rule", "rows"])
def test_a_planted_name_date_or_uid_is_found_and_not_repeated(
    folder: Path, planted: str, column: str
) -> None:
    if (column, planted) == ("geometry_rule", "20200131"):
        planted = "DOE^JANE"  # a rule may be a number
    if (column, planted) == ("rows", "20200131"):
        planted = "2020-01-31"  # an integer column turns digits into a number
    _edit(folder, f"UPDATE instances SET {column} = ?", planted)  # noqa: S608
    (finding,) = audit(folder)
    assert finding.where == f"catalogue.db instances.{column}, row 1"
    assert planted not in finding.what


@pytest.mark.parametrize("column", ["label_set", "class_set", "class_name"])
@pytest.mark.parametrize("planted", ["doe-jane", "20200131", "breast/benign"])
def test_a_set_or_class_that_is_not_known_is_found(folder: Path, planted: str, column: str) -> None:
    _edit(folder, f"UPDATE frames SET {column} = ?", planted)  # noqa: S608
    (finding,) = audit(folder)
    assert finding.where == f"catalogue.db frames.{column}, row 1"
    assert planted not in finding.what


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("instances", name) for name in ("rows", "left", "number_of_frames", "frame_time_s")),
        *(("instances", name) for name in ("groups", "row_spacing_mm", "burned_in_annotation")),
        *(("frames", name) for name in ("frame_number", "quality", "height", "size_bytes")),
        ("frames", "mask_bytes"),
        ("sightings", "frame_number"),
    ],
)
@pytest.mark.parametrize("planted", [20200131, 4711081500])
def test_a_date_or_number_of_a_patient_among_the_numbers_is_found(
    folder: Path, planted: int, table: str, column: str
) -> None:
    connection = sqlite3.connect(folder / "catalogue.db")
    connection.execute(f'UPDATE {table} SET "{column}" = ?', [planted])  # noqa: S608
    connection.commit()
    connection.close()
    [finding] = audit(folder)
    assert str(planted) not in finding.what


@pytest.mark.parametrize("column", ["patient", "study", "description"])
@pytest.mark.parametrize("planted", ["1234567890123456", "20200131120000000000", "ab" * 32])
def test_a_token_of_another_length_is_found(folder: Path, planted: str, column: str) -> None:
    _edit(folder, f"UPDATE instances SET {column} = ?", planted)  # noqa: S608
    assert [finding.where for finding in audit(folder)] == [
        f"catalogue.db instances.{column}, row 1"
    ]


def test_a_number_in_a_column_of_somebody_else_is_found(folder: Path) -> None:
    _edit(folder, "ALTER TABLE frames ADD COLUMN mrn INTEGER")
    _edit(folder, "UPDATE frames SET mrn = 7")
    assert [finding.where for finding in audit(folder)] == ["catalogue.db frames.?, row 1"]


def test_a_wrong_number_of_frames_is_found(folder: Path) -> None:
    _edit(folder, "UPDATE instances SET stored_frames = 4711")
    assert [finding.where for finding in audit(folder)] == ["catalogue.db instances.stored_frames"]


def test_a_number_in_the_place_of_a_size_that_no_mask_has_is_found(folder: Path) -> None:
    _edit(folder, "UPDATE frames SET mask_digest = NULL")
    (mask,) = (folder / "masks").rglob("*.png")
    mask.unlink()
    assert [finding.where for finding in audit(folder)] == ["catalogue.db frames.mask_bytes"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW doe_jane AS SELECT 1",
        "CREATE INDEX doe_jane ON frames (quality)",
        "CREATE TABLE doe_jane (id INTEGER)",
    ],
)
def test_what_the_store_does_not_make_is_found(folder: Path, statement: str) -> None:
    _edit(folder, statement)
    [finding] = audit(folder)
    assert "doe" not in finding.where + finding.what


@pytest.mark.parametrize("planted", ["Doe_Jane", "frames/Doe_Jane", "masks/ab/19700131", "cd"])
def test_a_folder_that_is_not_the_store_s_is_found_and_not_repeated(
    folder: Path, planted: str
) -> None:
    (folder / planted).mkdir(parents=True)
    [finding] = [one for one in audit(folder) if one.what == "not the store's; delete it"]
    assert not any(word in finding.where for word in ("Doe", "1970"))


@pytest.mark.parametrize("place", ["frames/Doe_Jane", "Doe_Jane.png", "frames/ab"])
def test_a_link_is_no_part_of_a_store(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "Doe_Jane.dcm").write_bytes(b"DICM")
    (folder / place).symlink_to(tmp_path / "elsewhere")
    [finding] = audit(folder)
    assert finding.where.startswith("file ")
    assert "Doe" not in finding.where


def test_a_file_in_a_folder_with_a_name_is_found_without_it(folder: Path) -> None:
    (folder / "frames" / "Doe_Jane").mkdir()
    (folder / "frames" / "Doe_Jane" / f"{'0' * 64}.png").write_bytes(b"")
    assert {finding.where for finding in audit(folder)} == {
        "folder frames/...",
        "file frames/...",
    }


def test_a_table_or_column_of_somebody_else_is_found(folder: Path) -> None:
    _edit(folder, "CREATE TABLE patients (name TEXT)")
    _edit(folder, "INSERT INTO patients VALUES (?)", "Doe^Jane")
    _edit(folder, "ALTER TABLE frames ADD COLUMN note TEXT")
    _edit(folder, "UPDATE frames SET note = ?", "seen by Dr. Doe")
    assert {finding.where for finding in audit(folder)} == {
        "catalogue.db",
        "catalogue.db ?.?, row 1",
        "catalogue.db frames.?, row 1",
    }


def test_a_file_that_the_catalogue_does_not_name_is_found(folder: Path) -> None:
    (folder / "frames" / "Doe_Jane.dcm").write_bytes(b"DICM")
    Image.fromarray(speckle()).save(folder / "masks" / f"{'0' * 64}.png")
    places = sorted(finding.where for finding in audit(folder))
    assert places == ["file frames/...", f"file masks/{'0' * 64}.png"]


def test_text_in_a_picture_is_found(folder: Path) -> None:
    (path,) = (folder / "frames").rglob("*.png")
    words = PngImagePlugin.PngInfo()
    words.add_text("Patient", "Doe^Jane")
    with Image.open(path) as image:
        image.load()
        image.save(path, pnginfo=words)
    assert [finding.what for finding in audit(folder)] == ["carries more than pixels"]


def test_bytes_behind_a_picture_are_found(folder: Path) -> None:
    (path,) = (folder / "frames").rglob("*.png")
    path.write_bytes(path.read_bytes() + b"Doe^Jane")
    assert [finding.what for finding in audit(folder)] == ["carries more than pixels"]


def test_changed_missing_and_broken_pictures_are_found(folder: Path) -> None:
    (frame,) = (folder / "frames").rglob("*.png")
    (mask,) = (folder / "masks").rglob("*.png")
    Image.fromarray(speckle(seed=9)).save(frame)
    mask.unlink()
    assert [finding.what for finding in audit(folder)] == [
        "its pixels do not fit its digest",
        LOST["masks"],
    ]
    frame.write_bytes(b"no picture")
    assert "not readable as PNG" in [finding.what for finding in audit(folder)]


def test_a_folder_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        audit(tmp_path)
