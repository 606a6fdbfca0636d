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
from dicom_node.errors import BundleError
from dicom_node.records import Task
from models.encoders import SmallEncoder
from models.quality import QualityNetwork
from models.unet import UNet
from training.export.bundle_file import TOLERANCE, compare, write_bundle

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
    write_bundle(tmp_path / "q.onnx", network, frames(1), describe)
    session = Bundle(tmp_path / "q.onnx").session
    assert session.run(None, {INPUT_NAME: frames(2)})[0].shape == (2, 4)


def test_the_bundle_is_one_file_of_opset_18(tmp_path: Path) -> None:
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
