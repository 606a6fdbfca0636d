"""Public images with a name burnt in above the scan: no pixel of it reaches the store."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.config import HarvestSettings
from dicom_node.harvest import load_tables, open_harvester
from dicom_node.harvest.vocabulary import vocabulary
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.store import audit
from tests.support.frames import instance_of

#: Of the banner of `make_studies.py`, which stands above the picture.
BANNER_PX = 40
#: So many patients of each set: about a hundred images.
SETS = {"busi": 30, "ddti": 22, "abdominal_rus": 1}
LEAST = 80


def _with_banners(test_data: Path, out: Path) -> list[dict[str, str]]:
    tool = test_data.parent / "tools" / "make_studies.py"
    if not (tool.is_file() and (test_data / "ultrasound" / "index.csv").is_file()):
        pytest.skip(f"no {tool}, or no ultrasound/ beside it: set DICOM_NODE_TEST_DATA")
    rows: list[dict[str, str]] = []
    for name, studies in SETS.items():
        words = ["--root", str(test_data / "ultrasound"), "--dataset", name]
        words += ["--studies", str(studies), "--banner", "--noise", "0.1"]
        subprocess.run([sys.executable, tool, out / name, *words], check=True, capture_output=True)
        with (out / name / "truth.csv").open(newline="", encoding="utf-8") as file:
            rows += [row | {"file": f"{name}/{row['file']}"} for row in csv.DictReader(file)]
    return rows


@pytest.mark.slow
@pytest.mark.data
def test_no_pixel_of_a_banner_reaches_the_store(test_data: Path, tmp_path: Path) -> None:
    rows = _with_banners(test_data, tmp_path / "sent")
    settings, data = HarvestSettings(), tmp_path / "data"
    compared = 0
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(settings, data, sandbox) as harvester,
    ):
        for row in rows:
            path = tmp_path / "sent" / row["file"]
            whole = dcmread(path).pixel_array
            assert whole[:BANNER_PX].max() > 200, "the banner is there"
            instance = instance_of(path)
            counts = harvester.harvest(instance)
            if not counts["frames stored"]:  # a public image that is there twice
                assert counts == {"frames stored": 0, "duplicate": 1}
                continue
            token = harvester.key.token("instance", instance.sop_instance_uid)
            [seen] = harvester.store.clip(token)
            stored = harvester.store.pixels(seen.frame_id)
            np.testing.assert_array_equal(stored, whole[BANNER_PX:])
            compared += 1
        assert compared == len(harvester.store.frames())
    assert compared >= LEAST
    assert audit(data / "store", vocabulary(load_tables(settings))) == []
