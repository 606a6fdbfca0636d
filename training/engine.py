"""Where a run computes: devices, processes and precision, through Lightning Fabric."""

import os
from typing import Final, Literal

import torch
from lightning_fabric import Fabric

from dicom_node.errors import ConfigError
from training.config import Engine

Precision = Literal["32-true", "bf16-mixed"]
_ONE: Final = 1


def launch(engine: Engine) -> Fabric:
    """Start the processes of a run; each of them comes back from here.

    Several machines, and machines that torchrun or SLURM started, are found by their environment.

    Raises
    ------
    ConfigError
        When the machine does not have what was asked for.
    """
    accelerator = "gpu" if _uses_gpu(engine) else "cpu"
    is_alone = engine.devices == engine.nodes == _ONE
    _set_speed(deterministic=engine.deterministic)
    fabric = Fabric(
        accelerator=accelerator,
        strategy="auto" if is_alone else "ddp",
        devices=engine.devices,
        num_nodes=engine.nodes,
        precision=_precision(engine, is_gpu=accelerator == "gpu"),
    )
    fabric.launch()
    return fabric


def _uses_gpu(engine: Engine) -> bool:
    found = torch.cuda.device_count()
    if engine.accelerator == "gpu" and engine.devices > found:
        raise ConfigError(
            f"--devices {engine.devices}: this machine has {found} GPU(s); ask for so many, "
            "or take --accelerator cpu"
        )
    return engine.accelerator != "cpu" and engine.devices <= found


def _precision(engine: Engine, *, is_gpu: bool) -> Precision:
    if engine.precision != "auto":
        return engine.precision
    if is_gpu:
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    return "bf16-mixed" if torch.cpu.get_capabilities().get("amx_bf16") else "32-true"


def _set_speed(*, deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_float32_matmul_precision("highest" if deterministic else "high")
    if deterministic:
        # cuBLAS reads it when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
