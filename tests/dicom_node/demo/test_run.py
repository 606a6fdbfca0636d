import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.config import Destination
from dicom_node.deliver import echo
from tests.support.nodes import until

COMMAND = [sys.executable, "-m", "dicom_node"]


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    found = subprocess.run(
        [*COMMAND, "demo", "--folder", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "holds something else" in found.stderr
    assert precious.read_text() == "mine"


@pytest.mark.torch
@pytest.mark.dimse
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_the_demo_trains_serves_delivers_and_leaves_a_node_that_runs_on(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the train group: make test installs it")
    folder = tmp_path / "demo"
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "demo", "--folder", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"the demo took {time.monotonic() - started:.0f} s")  # noqa: T201 - shown by -rP
    table = dict(re.findall(r"│ ([a-zA-Z -]+?) +│ (\d+) +│", done.stdout))
    assert table["sent by C-STORE"] == table["acknowledged by the node"]
    assert table["models trained"] == "2"
    assert table["dead letters"] == "0"
    delivered = int(table["SEG delivered"]) + int(table["SR delivered"])
    assert delivered == int(table["objects in the PACS"]) > 20
    page = (folder / "index.html").read_text()
    for picture in re.findall(r'src="([^"]+)"', page):
        assert (folder / picture).exists()
    assert "no report came back" not in page
    assert_runs_on(folder)


def assert_runs_on(folder: Path) -> None:
    settings = config.load(folder / "node.yaml").node
    address = Destination(
        name="node", ae_title=settings.ae_title, host=settings.bind, port=settings.port
    )
    with (folder / "again.log").open("wb") as log:
        node = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(folder / "node.yaml")], stdout=log, stderr=log
        )
    try:
        until(lambda: '"ready"' in (folder / "again.log").read_text())
        assert echo(address, calling_ae_title="DEMO_MODALITY") == ""
    finally:
        node.terminate()
        assert node.wait(60) == 0
    lines = [json.loads(line) for line in (folder / "again.log").read_text().splitlines()]
    [ready] = [line for line in lines if line["event"] == "worker ready"]
    assert ready["counts"]["models"] == 2
