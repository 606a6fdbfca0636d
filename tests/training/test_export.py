import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_node.bundle import (
    INPUT_NAME,
    Bundle,
    Code,
    Input,
    Label,
    Manifest,
    Parity,
    Provenance,
    digest,
)
from dicom_node.errors import BundleError, ConfigError
from dicom_node.infer.models import Models
from dicom_node.records import Task
from models.encoders import SmallEncoder
from models.quality import QualityNetwork
from models.unet import UNet
from tests.conftest import REPOSITORY
from tests.support.finetuning import settings
from training import runs
from training.code_version import code_version
from training.export import Bundling, export
from training.export.bundle_file import TOLERANCE, compare, write_bundle
from training.export.describing import describe as described

#: An export whose process is gone at the step that is named.
KILLED = """
import os, pathlib, signal, sys
from tests.training.test_export import describe, frames, unet
from training.export.bundle_file import write_bundle

def gone(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr({"fsync": os, "replace": pathlib.Path}[sys.argv[2]], sys.argv[2], gone)
write_bundle(pathlib.Path(sys.argv[1]), unet(), frames(2), describe)
"""
ORGAN = Code(value="10200004", scheme="SCT", meaning="Liver")
STRUCTURE = Code(value="91723000", scheme="SCT", meaning="Anatomical structure")


def describe(parity: Parity) -> Manifest:
    return Manifest(
        name="test-model",
        version="1",
        manufacturer="test",
        task=Task.SEGMENTATION,
        labels=(Label(value=1, category=STRUCTURE, type=ORGAN),),
        input=Input(height=64, width=96),
        provenance=Provenance(
            created_at="2024-01-02T03:04:05+00:00",
            code_version="0",
            recipe="none",
            seed=0,
            store_version="0",
            training_frames=1,
        ),
        parity=parity,
    )


def describe_quality(parity: Parity) -> Manifest:
    return describe(parity).model_copy(update={"task": Task.QUALITY, "labels": ()})


def frames(count: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 1, 64, 96), dtype=np.uint8)


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(SmallEncoder(4), classes=2).eval()


def test_a_bundle_opens_and_answers_what_torch_answers_for_any_batch(tmp_path: Path) -> None:
    network, path = unet(), tmp_path / "m.onnx"
    written = write_bundle(path, network, frames(3), describe)
    bundle = Bundle(path)
    assert bundle.manifest == written
    assert digest(path.read_bytes(), written.digest) == written.digest
    assert written.parity.frames == 3
    assert written.parity.max_abs_difference <= written.parity.tolerance == TOLERANCE
    for count in (1, 5):
        with torch.no_grad():
            expected = network.probabilities(torch.from_numpy(frames(count))).numpy()
        answer = bundle.session.run(None, {INPUT_NAME: frames(count)})[0]
        assert answer.shape == (count, 2, 64, 96)
        assert np.abs(answer - expected).max() <= TOLERANCE


def test_a_quality_bundle_gives_four_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = QualityNetwork(SmallEncoder(4)).eval()
    write_bundle(tmp_path / "q.onnx", network, frames(1), describe_quality)
    session = Bundle(tmp_path / "q.onnx").session
    assert session.run(None, {INPUT_NAME: frames(2)})[0].shape == (2, 4)


def test_the_bundle_is_one_file_of_opset_18(tmp_path: Path) -> None:
    # what an export left that was killed
    (tmp_path / "m.onnx.part").write_bytes(b"half a bundle")
    write_bundle(tmp_path / "m.onnx", unet(), frames(2), describe)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {18}
    assert not [t for t in model.graph.initializer if t.external_data]


def test_a_bundle_tells_nothing_of_the_machine_that_made_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.onnx", unet(), frames(2), describe)
    content = (tmp_path / "m.onnx").read_bytes()
    assert str(Path(__file__).resolve().parents[2]).encode() not in content
    assert b".py" not in content


class Shifted(nn.Module):
    """Torch's side of a disagreement."""

    def __init__(self, network: UNet, by: float) -> None:
        super().__init__()
        self.network, self.by = network, by

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.probabilities(frames) + self.by


def test_a_difference_above_the_tolerance_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.onnx", unet(), frames(2), describe)
    graph = (tmp_path / "m.onnx").read_bytes()
    assert compare(Shifted(unet(), 0.0), graph, frames(2)).max_abs_difference <= TOLERANCE
    with pytest.raises(BundleError, match=r"differ by 0\.000[23].*nothing was written"):
        compare(Shifted(unet(), 2.5e-4), graph, frames(2))


class Fickle(UNet):
    """Answers eagerly with other numbers than when it is exported."""

    def probabilities(self, frames: Tensor) -> Tensor:
        answer = super().probabilities(frames)
        return answer if torch.compiler.is_compiling() else answer * 0.9


def test_nothing_is_written_and_the_old_bundle_stays_when_torch_and_onnxruntime_disagree(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"an older bundle")
    with pytest.raises(BundleError, match="torch and onnxruntime differ"):
        write_bundle(path, Fickle(SmallEncoder(4), classes=2).eval(), frames(2), describe)
    assert path.read_bytes() == b"an older bundle"
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a bundle's bytes."""
    path = tmp_path_factory.mktemp("old") / "m.onnx"
    write_bundle(path, unet(), frames(1), describe)
    return path.read_bytes()


@pytest.fixture
def old(content: bytes, tmp_path: Path) -> Path:
    """A bundle that is served until another takes its place."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_old_bundle_is_served_when_an_export_is_killed_at_its_last_steps(
    old: Path, content: bytes, step: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(old), step], cwd=REPOSITORY, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in old.parent.iterdir()} == {"m.onnx", "m.onnx.part"}
    assert old.read_bytes() == content
    [served] = Models(old.parent).current()
    assert served.path == old


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_the_old_bundle_stands_when_the_disk_refuses_the_new_one(
    old: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, owner: object, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, full)
        with pytest.raises(OSError, match="No space left"):
            write_bundle(old, unet(), frames(2), describe)
    assert [path.name for path in old.parent.iterdir()] == ["m.onnx"]
    assert old.read_bytes() == content


def info_of(task: Task) -> runs.RunInfo:
    found = runs.RunInfo(kind="finetune", settings=settings(task), store_version="abc")
    return found.model_copy(
        update={"code_version": "0", "finished_at": datetime(2026, 1, 1, tzinfo=UTC)}
    )


def test_a_bundle_says_which_code_trained_it_and_which_wrote_it() -> None:
    parity = Parity(max_abs_difference=0, tolerance=TOLERANCE, frames=1)
    info = info_of(Task.QUALITY)
    origin = described(info, settings(Task.QUALITY), Bundling(), parity).provenance
    assert (origin.code_version, origin.exported_with) == ("0", code_version())


def test_a_classification_is_refused_with_what_serves_and_what_else_to_do(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    runs.write(run, info_of(Task.CLASSIFICATION))
    with pytest.raises(ConfigError, match="a classification model: the node serves") as told:
        export(run, tmp_path / "bundles" / "c.onnx")
    assert "serves segmentation and quality only" in str(told.value)
    assert "use network.pt of the run in a program of your own" in str(told.value)
    assert not (tmp_path / "bundles").exists()
