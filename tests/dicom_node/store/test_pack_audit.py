import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.store import Erasure
from dicom_node.store.pack_audit import audit_packs
from tests.support.packs import Still, filled, pseudonym
from training import pack
from training.config import Size

JANE, RICHARD = pseudonym("jane"), pseudonym("richard")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store and a pack of it; two frames are Jane's."""
    folder = tmp_path_factory.mktemp("built")
    mask = np.ones((40, 60), np.uint8)
    stills = [Still(patient=JANE), Still(patient=JANE, label={"mask": mask, "quality": 3})]
    filled(folder / "store", [*stills, Still(patient=RICHARD)])
    pack.ensure(folder / "store", None, Size(height=64, width=64))
    return folder


@pytest.fixture
def made(built: Path, tmp_path: Path) -> Path:
    """Return the only pack in a folder that may be changed."""
    [found] = [path for path in (built / "packs").iterdir() if path.is_dir()]
    copied = tmp_path / "packs" / found.name
    copied.mkdir(parents=True)
    for file in found.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def _words(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    about = json.loads((path / "pack.json").read_text())
    change(about)
    (path / "pack.json").write_text(f"{json.dumps(about, indent=1)}\n")


def _column(path: Path, name: str, value: object) -> None:
    with np.load(path / "rows.npz") as columns:
        rows = {column: columns[column] for column in columns}
    rows[name] = np.array([value] * 3)
    np.savez_compressed(path / "rows.npz", **rows)


def test_a_pack_that_was_only_built_is_clean(built: Path, tmp_path: Path) -> None:
    assert audit_packs(built / "packs", built / "store") == []
    assert audit_packs(tmp_path / "nowhere", built / "store") == []


@pytest.mark.parametrize("planted", ["DOE^JANE", "19700131", "1.2.840.113619.2.21", "836357531"])
@pytest.mark.parametrize("place", ["label_sets", "left_out", "splits", "store_version", "note"])
def test_words_in_a_pack_are_found_and_not_repeated(
    built: Path, made: Path, planted: str, place: str
) -> None:
    put: object = {"label_sets": {planted: []}, "left_out": [planted], "splits": [planted]}.get(
        place, planted
    )
    _words(made, lambda about: about.update({place: put}))
    [finding] = audit_packs(made.parent, built / "store")
    assert finding.where == f"pack {made.name} pack.json"
    assert planted not in finding.what


def test_a_key_that_stands_twice_is_found(built: Path, made: Path) -> None:
    text = (made / "pack.json").read_text()
    (made / "pack.json").write_text(text.replace("{", '{"groups": "DOE^JANE",', 1))
    [finding] = audit_packs(made.parent, built / "store")
    assert finding.where.endswith("pack.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame_id", "DOE^JANE"),
        ("frame_id", f"{'a' * 64} DOE^JANE"),
        ("patient", 19700131),
        ("frame_number", 836357531),
        ("quality", 7),
        ("split", "DOE^JANE"),
        ("quality", 3.5),
        ("birth_date", 19700131),
    ],
)
def test_a_column_of_a_pack_that_says_more_is_found(
    built: Path, made: Path, name: str, value: object
) -> None:
    _column(made, name, value)
    [finding] = audit_packs(made.parent, built / "store")
    assert finding.where == f"pack {made.name} rows.npz"


def test_a_comment_in_the_archive_of_a_pack_is_found(built: Path, made: Path) -> None:
    with zipfile.ZipFile(made / "rows.npz", "a") as archive:
        archive.comment = b"DOE^JANE"
    [finding] = audit_packs(made.parent, built / "store")
    assert finding.where.endswith("rows.npz")


@pytest.mark.parametrize("name", ["frames.npy", "masks.npy"])
def test_bytes_behind_the_pictures_of_a_pack_are_found(built: Path, made: Path, name: str) -> None:
    (made / name).write_bytes((made / name).read_bytes() + b"DOE^JANE")
    [finding] = audit_packs(made.parent, built / "store")
    assert finding.where.endswith(name)


def test_other_files_and_names_beside_packs_are_found_and_not_repeated(
    built: Path, made: Path
) -> None:
    (made.parent / "Doe_Jane.txt").write_text("1970-01-31")
    (made.parent / "Doe_Jane").mkdir()
    (made.parent / "Doe_Jane" / "Doe_Jane.dcm").write_bytes(b"DICM")
    (made.parent / f"{made.name}.lock").write_text("Doe^Jane")
    made.rename(made.with_name("Doe_Jane's"))
    found = audit_packs(made.parent, built / "store")
    assert len(found) == 5
    assert not any("Doe" in one.where + one.what for one in found)


def test_a_pack_that_still_shows_an_erased_patient_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", [Still(patient=JANE), Still(patient=RICHARD)])
    pack.ensure(store, tmp_path / "elsewhere", Size(height=64, width=64))
    with Erasure(store, JANE) as erasure, erasure.alone():
        erasure.run()
    [finding] = audit_packs(tmp_path / "elsewhere", store)
    assert finding.what.startswith("1 frames that the store does not hold")
    (tmp_path / "elsewhere" / finding.where.split()[1] / "frames.npy").write_bytes(b"cut short")
    assert len(audit_packs(tmp_path / "elsewhere", store)) == 2
