import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import models
import training

REPOSITORY = Path(__file__).resolve().parents[2]


def test_models_and_training_are_those_of_this_repository() -> None:
    for package in (models, training):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(REPOSITORY)


def test_the_node_and_its_command_line_load_no_torch_and_no_grpc() -> None:
    script = (
        "import sys, dicom_node.cli, dicom_node.node.worker, dicom_node.cli.checks\n"
        "sys.exit(bool({'torch', 'onnx', 'grpc'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_the_wheel_ships_dicom_node_alone_and_asks_for_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs the test group: make test installs it")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(REPOSITORY)],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dicom_node"}
    assert "dicom_node/demo/page.html.j2" in names
    assert {"dicom_node/page/templates/base.html", "dicom_node/page/static/page.css"} <= {*names}
    assert "dicom_node/py.typed" in names
    assert "torch" not in metadata.split("\n\n")[0]
