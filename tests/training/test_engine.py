from pathlib import Path

import pytest
import torch

from dicom_node.errors import ConfigError, StoreError
from training.config import Engine
from training.engine import comes_first, first_alone, launch, prepare, uses_gpu


def test_one_process_on_the_cpu_needs_nothing_but_this_one() -> None:
    fabric = launch(Engine(accelerator="cpu"))
    assert (fabric.device.type, fabric.world_size, fabric.is_global_zero) == ("cpu", 1, True)


def test_bf16_is_taken_where_the_cpu_computes_it() -> None:
    has_it = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    with launch(Engine(accelerator="cpu")).autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype is torch.bfloat16) is has_it


def test_full_precision_can_be_asked_for() -> None:
    with launch(Engine(accelerator="cpu", precision="32-true")).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def test_gpus_that_are_not_there_are_refused_with_the_number_that_is() -> None:
    found = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"--devices {found + 1}: this machine has {found} GPU"):
        launch(Engine(accelerator="gpu", devices=found + 1))


@pytest.mark.parametrize(
    ("accelerator", "devices", "found", "expected"),
    [
        ("auto", 1, 0, False),
        ("auto", 4, 0, False),
        ("auto", 1, 2, True),
        ("auto", 2, 2, True),
        ("cpu", 4, 2, False),
        ("gpu", 2, 2, True),
    ],
)
def test_gpus_are_used_where_there_are_enough_and_the_cpu_where_there_is_none(
    accelerator: str, devices: int, found: int, expected: bool
) -> None:
    engine = Engine(accelerator=accelerator, devices=devices)
    assert uses_gpu(engine, found) is expected


@pytest.mark.parametrize(("accelerator", "found"), [("auto", 2), ("gpu", 2), ("gpu", 0)])
def test_too_few_gpus_are_no_reason_to_take_the_cpu_silently(accelerator: str, found: int) -> None:
    with pytest.raises(ConfigError, match=rf"--devices 4: this machine has {found} GPU\(s\)"):
        uses_gpu(Engine(accelerator=accelerator, devices=4), found)


def test_the_process_that_starts_the_others_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Engine(accelerator="cpu", devices=2)
    for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert comes_first(prepare(Engine(accelerator="cpu")))
    assert comes_first(prepare(two))
    monkeypatch.setenv("NODE_RANK", "1")
    assert not comes_first(prepare(two))
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not comes_first(prepare(two))


def test_one_process_alone_gets_what_it_does_and_how_it_failed(tmp_path: Path) -> None:
    def fail() -> None:
        raise StoreError("no frames")

    fabric = launch(Engine(accelerator="cpu"))
    assert first_alone(fabric, lambda: tmp_path) == tmp_path
    with pytest.raises(StoreError, match="no frames"):
        first_alone(fabric, fail)
    with pytest.raises(FileNotFoundError):
        first_alone(fabric, (tmp_path / "absent").read_bytes)


def test_the_deterministic_mode_refuses_what_does_not_repeat() -> None:
    launch(Engine(accelerator="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    launch(Engine(accelerator="cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
