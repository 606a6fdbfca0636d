import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.frames import saved, ultrasound
from tests.support.nodes import Node, node_on, send, until

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

OUT_OF_RESOURCES = 0xA700
#: the node's databases take 2 MB of it
DISK_MB = 24
BALLAST_BYTES = 12 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that fills up soon."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def node(tmp_path: Path, small_disk: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), data=str(small_disk / "data")) as configured:
        yield configured


def image(folder: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (1, 1000, 1000), dtype=np.uint8)
    return saved(ultrasound(pixels), folder / f"{number}.dcm")


def test_a_full_disk_refuses_loses_nothing_and_goes_on_by_itself(
    node: Node, small_disk: Path, tmp_path: Path
) -> None:
    node.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(BALLAST_BYTES))
    statuses: list[int | None] = []
    while OUT_OF_RESOURCES not in statuses:
        assert len(statuses) < DISK_MB, "the disk never filled up"
        statuses += send([image(tmp_path, len(statuses))], node.port)
    assert set(statuses[:-1]) == {0x0000}
    refused = tmp_path / f"{len(statuses) - 1}.dcm"
    assert send([refused], node.port) == [OUT_OF_RESOURCES]
    assert not list((node.layout.inbox / "tmp").iterdir())

    ballast.unlink()
    assert send([refused], node.port) == [0x0000]

    def all_are_finished() -> bool:
        with node.index() as index:
            counts = index.counts()
        return counts["instances"] == len(statuses) and not counts["studies_open"]

    until(all_are_finished, why=node.log)
    assert node.stop() == 0
