import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from tests.support.packs import Still, filled, mask, patients
from training import pack
from training.config import Size

SIZE = Size(height=64, width=96)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a pack of three frames, one with a mask."""
    of = patients("train", 3)
    stills = [Still(patient=of[n], label={"mask": mask()} if n else {}) for n in range(3)]
    return pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE).folder


def edit(folder: Path, **fields: object) -> None:
    about = folder / "pack.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | fields))


def test_a_pack_travels_alone(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    (tmp_path / "store").rename(tmp_path / "gone")
    opened = pack.open(moved)
    assert len(opened) == 3
    assert opened.frames.shape == (3, 64, 96)
    assert isinstance(opened.frames, np.memmap)


@pytest.mark.slow
def test_reading_needs_no_database_and_no_dicom(folder: Path) -> None:
    script = (
        "import sys, pathlib, torch\n"
        "from training import pack\n"
        "from training.batches import Batches\n"
        "opened = pack.open(pathlib.Path(sys.argv[1]))\n"
        "batches = Batches(opened, opened.select(), batch_size=2, training=True,\n"
        "                  device=torch.device('cpu'))\n"
        "assert len(list(batches.epoch(1))) == 1\n"
        "print([n for n in ('sqlalchemy', 'pydicom', 'dicom_node.store') if n in sys.modules])\n"
    )
    command = [sys.executable, "-c", script, folder]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"


def test_another_format_is_named_with_the_way_out(folder: Path) -> None:
    edit(folder, format=2)
    with pytest.raises(StoreError, match="format 2, known is 1; delete the folder"):
        pack.open(folder)


def test_a_folder_without_a_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent: no pack here \(No such file"):
        pack.open(tmp_path / "absent")


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '"pack"'])
def test_a_damaged_description_is_named(folder: Path, content: str) -> None:
    (folder / "pack.json").write_text(content)
    with pytest.raises(StoreError, match=r"pack\.json is damaged; delete the folder"):
        pack.open(folder)


@pytest.mark.parametrize("name", ["frames.npy", "masks.npy", "rows.npz"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_damaged_arrays_are_noticed_when_the_pack_is_opened(
    folder: Path, name: str, damage: str
) -> None:
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -200 if damage == "cut" else 0])
    with pytest.raises(StoreError, match="the pack is damaged"):
        pack.open(folder)


@pytest.mark.parametrize(
    "fields", [{"frames": 4}, {"size": {"height": 96, "width": 64}}, {"size": "64x96"}]
)
def test_arrays_that_do_not_fit_the_description_are_noticed(
    folder: Path, fields: dict[str, object]
) -> None:
    edit(folder, **fields)
    with pytest.raises(StoreError, match="the pack is damaged"):
        pack.open(folder)
