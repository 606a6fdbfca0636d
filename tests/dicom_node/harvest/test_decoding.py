from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.config import HarvestSettings
from dicom_node.harvest import open_harvester
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Instance
from tests.support.frames import (
    instance_of,
    pydicom_file,
    region_item,
    saved,
    speckle,
    ultrasound,
    with_its_region,
)

REGION = Box(left=16, top=16, right=112, bottom=112)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


def _images(folder: Path) -> list[Instance]:
    """Return a study of stills and cines, some of which are not decoded or cannot be."""
    made = []
    for number, frames in enumerate((1, 1, 3, 1)):
        pixels = np.zeros((frames, 128, 128), np.uint8)
        for place, frame in enumerate(pixels):
            frame[REGION.slices] = speckle(96, 96, seed=10 * number + place)
        regions = [region_item(REGION)]
        data_set = ultrasound(pixels, SequenceOfUltrasoundRegions=regions, FrameTime=400)
        made.append(instance_of(saved(data_set, folder / f"{number}.dcm")))
    cut_short = dcmread(with_its_region(folder / "broken.dcm"))
    cut_short.PixelData = b"\0" * 10
    broken = saved(cut_short, folder / "broken.dcm")
    no_region = instance_of(pydicom_file("examples_rgb_color.dcm"))
    return [made[0], no_region, *made[1:3], instance_of(broken), made[0], made[3]]


@pytest.mark.parametrize("no_region", ["skip", "detect"])
def test_one_decoder_process_serves_a_study(
    sandbox: PixelSandbox, tmp_path: Path, no_region: str
) -> None:
    images = _images(tmp_path)
    settings = HarvestSettings.model_validate({"no_region": no_region})
    with open_harvester(settings, tmp_path / "data", sandbox) as harvester:
        harvester.harvest(images[0])
        first = sandbox.pid
        counts = [counts for _, counts in harvester.harvest_all(images)]
        assert sandbox.pid == first is not None
        again = [counts["frames stored"] for _, counts in harvester.harvest_all(images)]
        assert sandbox.pid == first
    seen = int(no_region == "detect")  # the second image names no region
    assert [count["frames stored"] for count in counts] == [0, seen, 1, 3, 0, 0, 1]
    assert counts[4]["undecodable"] == 1
    assert again == [0] * 7
