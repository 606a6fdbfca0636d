import pytest
import torch

from dicom_node.errors import ConfigError
from training.config import Engine
from training.engine import launch


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


def test_the_deterministic_mode_refuses_what_does_not_repeat() -> None:
    launch(Engine(accelerator="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    launch(Engine(accelerator="cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
