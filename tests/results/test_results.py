import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.harvest import open_key
from dicom_node.harvest.opening import KEY
from dicom_node.store import WeakLabelStore
from tests.results import __main__ as results
from tests.results import harvest
from tests.results.account import Account, table
from tests.results.studies import SETS


def _tool(test_data: Path) -> Path:
    tool = test_data.parent / "tools" / "make_studies.py"
    if not (tool.is_file() and (test_data / "ultrasound").is_dir()):
        pytest.skip(f"no {tool}, or no ultrasound/ beside it: set DICOM_NODE_TEST_DATA")
    return tool


def harvested(study: str, **counts: int) -> str:
    told = {name.replace("_", " "): count for name, count in counts.items()}
    line = {"study_instance_uid": study, "counts": told, "event": "harvested"}
    return json.dumps(line) + "\n"


def test_a_study_that_was_harvested_twice_counts_once() -> None:
    log = "worker ready\n"
    log += harvested("1.2", frames_stored=2, duplicate=1)
    log += harvested("1.3", frames_stored=1, already_stored=1)
    # an image of the first came late
    log += harvested("1.2", frames_stored=1, already_stored=2, duplicate=1)
    assert harvest.became(log) == {
        "1.2": {harvest.STORED: 3, "duplicate": 1},
        "1.3": {harvest.STORED: 1, "already stored": 1},
    }


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.dimse
def test_public_images_arrive_in_the_store_with_their_masks_in_place(
    test_data: Path, tmp_path: Path
) -> None:
    tool = _tool(test_data)
    asked = ["--data", str(test_data), "--tool", str(tool), "--out", str(tmp_path), "--store-only"]
    assert results.main([*asked, "--studies", "1"]) == 0
    found = json.loads((tmp_path / "frames.json").read_text())
    assert set(found["counts"]) == set(SETS)
    for row in found["counts"].values():
        assert row["sent"] == row[harvest.STORED] + row.get("duplicate", 0)
    assert "proxy tags" in (tmp_path / "frames.md").read_text()
    _compare_masks(tmp_path, test_data / "ultrasound")
    with pytest.raises(SystemExit, match="name another --out"):
        results.main([*asked, "--studies", "3"])


def _compare_masks(folder: Path, images: Path) -> None:
    key = open_key(folder / "data" / KEY)
    compared = set()
    with (
        WeakLabelStore(folder / "data" / "store") as store,
        (folder / "sent" / "truth.csv").open(newline="") as file,
    ):
        frames = {frame.instance: frame for frame in store.frames()}
        for row in csv.DictReader(file):
            frame = frames.get(key.token("instance", row["sop_instance_uid"]))
            if row["mask"] and frame is not None:
                drawn = np.array(Image.open(images / row["mask"]))
                drawn[drawn > (2 if row["dataset"] == "abdominal_rus" else 1)] = 0
                np.testing.assert_array_equal(store.mask(frame.frame_id), drawn)
                compared.add(row["dataset"])
    assert compared == {"ddti", "busi", "abdominal_rus"}  # the first case of hc18 has no mask


def test_an_image_that_is_not_accounted_for_is_a_fault(tmp_path: Path) -> None:
    with WeakLabelStore(tmp_path / "data" / "store"):
        pass
    counts = {"a": {"sent": 3, harvest.STORED: 1, "black": 1}}
    assert list(harvest._differences(tmp_path, counts)) == [
        "a: 3 images were sent and 2 are accounted for",
        "the store holds 0 frames where the log says 1",
    ]


def test_the_table_names_every_reason_for_leaving_images_out() -> None:
    counts = {
        "a": {"sent": 3, harvest.STORED: 2, "black": 1, "masks": 2, "classes": 0},
        "b": {"sent": 5, harvest.STORED: 4, "duplicate": 1, "masks": 0, "classes": 4},
    }
    text = table(Account(asked="", command="run", date="today", counts=counts))
    assert "| set | sent | frames stored | black | duplicate | masks | classes |" in text
    assert "| all | 8 | 6 | 1 | 1 | 2 | 4 |" in text
