from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import ConfigError, StoreError
from models import encoders
from tests.support.finetuning import fabric, with_columns
from tests.support.lesions import detecting, lesions_pack
from training import runs
from training.detect import build, detect, paced
from training.export import export
from training.loop import Epoch
from training.pack import Pack

WANTED = detecting()


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return lesions_pack(tmp_path_factory.mktemp("lesions"))


@pytest.fixture(scope="module")
def run(lesions: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect") / "run"
    detect(WANTED, lesions, fabric(), run=folder)
    return folder


def test_a_detector_is_trained_chosen_and_tested(run: Path) -> None:
    info = runs.read(run)
    assert info.kind == "detect"
    assert info.finished_at is not None
    measures = {f"test_{what}_{ap}" for what in ("box", "mask") for ap in ("ap", "ap50", "ap75")}
    assert set(info.metrics) == measures | {"validation_dice"}
    assert (run / runs.NETWORK).exists()
    assert not (run / runs.CHECKPOINT).exists()


def test_a_finished_detector_is_not_trained_again(run: Path, lesions: Pack) -> None:
    before = runs.read(run)
    assert detect(WANTED, lesions, fabric(), run=run) == before


@pytest.mark.parametrize(("seen", "count"), [("nothing", 2), ("nobody", 0)])
def test_test_frames_without_a_lesion_are_said_before_anything_is_learned(
    lesions: Pack, tmp_path: Path, seen: str, count: int
) -> None:
    tested = lesions.select(split="test")
    if seen == "nothing":
        assert isinstance(lesions.masks, np.ndarray)
        masks = np.array(lesions.masks)
        masks[tested] = 0
        masks[tested, 0, :7] = 1  # a crumb
        pack = replace(lesions, masks=masks)
    else:
        splits = lesions.rows.split.copy()
        splits[tested] = splits[lesions.select(split="train")[0]]
        pack = with_columns(lesions, split=splits)
    with pytest.raises(StoreError, match=f"none of {count} test frames shows a lesion of 8"):
        detect(WANTED, pack, fabric(), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_detector_is_not_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a run of 'train detect' is not served"):
        export(run, tmp_path / "lesions.onnx")


def rates(epochs: int, steps: int, *, killed_at: int = -1) -> list[float]:
    """Return the learning rate of each step of a run at the rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    pace = paced(optimizer, epochs=epochs, steps=steps)
    found = []
    for step in range(epochs * steps):
        if step == killed_at:
            left, rate = pace.state_dict(), optimizer.state_dict()
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            pace = paced(optimizer, epochs=epochs, steps=steps)
            optimizer.load_state_dict(rate)
            pace.load_state_dict(left)
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        pace.step()
    return found


def test_the_learning_rate_rises_through_the_first_epoch_and_falls_after_each_third() -> None:
    found = rates(epochs=6, steps=10)
    first = found[:10]
    assert first[0] == pytest.approx(0.001)
    assert all(before < after for before, after in pairwise(first))
    assert first[-1] == pytest.approx(1)
    assert found[10:20] == pytest.approx([1] * 10)
    assert found[20:40] == pytest.approx([0.1] * 20)
    assert found[40:] == pytest.approx([0.01] * 20)


def test_a_long_first_epoch_ends_at_the_whole_rate() -> None:
    found = rates(epochs=1, steps=1200)
    assert found[500] == pytest.approx(0.5, abs=0.001)
    assert found[1000:] == pytest.approx([1] * 200)


@pytest.mark.parametrize("step", [5, 15, 40])
def test_a_run_that_was_killed_goes_on_at_its_rate(step: int) -> None:
    assert rates(6, 10, killed_at=step) == pytest.approx(rates(6, 10))


def test_an_epoch_of_one_step_has_its_whole_rate_in_the_second() -> None:
    assert rates(epochs=3, steps=1) == pytest.approx([0.001, 0.1, 0.01])


def test_what_is_kept_of_a_start_keeps_its_batch_statistics_after_a_kill_too(
    lesions: Pack, tmp_path: Path
) -> None:
    def killed(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    torch.manual_seed(3)
    before = encoders.build("resnet18").state_dict()
    runs.save(tmp_path / "start.pt", before)
    wanted = detecting(encoder="resnet18", heads="slim", epochs=2)
    learn = partial(
        *(detect, wanted, lesions, fabric()), run=tmp_path / "run", start=tmp_path / "start.pt"
    )
    with pytest.raises(KeyboardInterrupt):
        learn(after_epoch=killed)
    learn()
    network = build(wanted, 1)
    runs.load(tmp_path / "run" / runs.NETWORK, network)
    after = network.encoder.state_dict()
    kept = [name for name in before if name.startswith(("conv1", "bn1", "layer1"))]
    assert "bn1.running_mean" in kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(before["layer2.0.bn1.running_mean"], after["layer2.0.bn1.running_mean"])


def test_slim_heads_are_another_run(run: Path, lesions: Pack) -> None:
    with pytest.raises(ConfigError, match="holds a run with heads full, not slim"):
        detect(detecting(heads="slim"), lesions, fabric(), run=run)


def test_a_rate_that_breaks_a_network_in_one_step_is_not_that_of_the_first_step(
    lesions: Pack, tmp_path: Path
) -> None:
    wanted = detecting(learning_rate=1e5)
    assert detect(wanted, lesions, fabric(), run=tmp_path / "run").finished_at is not None
