"""Where a run computes: devices, processes and precision, through Lightning Fabric."""

import os
from collections.abc import Callable
from typing import Final, Literal, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.parallel import ParallelStrategy

from dicom_node.errors import ConfigError, NodeError
from training.config import Engine

Precision = Literal["32-true", "bf16-mixed"]
T = TypeVar("T")
_ONE: Final = 1


def launch(engine: Engine) -> Fabric:
    """Start the processes of a run; each of them comes back from here.

    Several machines, and machines that torchrun or SLURM started, are found by their environment.

    Raises
    ------
    ConfigError
        When the machine does not have what was asked for.
    """
    fabric = prepare(engine)
    fabric.launch()
    return fabric


def prepare(engine: Engine) -> Fabric:
    """Return what starts the processes of a run, not launched yet.

    Raises
    ------
    ConfigError
        When the machine does not have what was asked for.
    """
    is_gpu = uses_gpu(engine, torch.cuda.device_count())
    is_alone = engine.devices == engine.nodes == _ONE
    _set_speed(deterministic=engine.deterministic)
    return Fabric(
        accelerator="gpu" if is_gpu else "cpu",
        strategy="auto" if is_alone else "ddp",
        devices=engine.devices,
        num_nodes=engine.nodes,
        precision=_precision(engine, is_gpu=is_gpu),
    )


def comes_first(fabric: Fabric) -> bool:
    """Return, before the launch, whether this process is the one that starts all others.

    Those that it starts do not, nor does any where torchrun or SLURM starts them.
    """
    strategy = fabric.strategy
    environment = strategy.cluster_environment if isinstance(strategy, ParallelStrategy) else None
    if environment is None:
        return True
    return not environment.creates_processes_externally and environment.node_rank() == 0


def first_alone(fabric: Fabric, work: Callable[[], T]) -> T:
    """Let the first process of a run do something; all return what it returned.

    Parameters
    ----------
    fabric : Fabric
        Launched; every process must come here.
    work : callable
        What it returns travels as a pickle.

    Raises
    ------
    NodeError or OSError
        In every process, when the first one raised it: nobody waits for who has gone.
    """
    done: T | None = None
    fault: NodeError | OSError | None = None
    if fabric.is_global_zero:
        try:
            done = work()
        except (NodeError, OSError) as exc:
            fault = exc
    done, fault = fabric.broadcast((done, fault))
    if fault is not None:
        raise fault
    return cast(T, done)


def uses_gpu(engine: Engine, found: int) -> bool:
    """Return whether a run computes on GPUs.

    Parameters
    ----------
    engine : Engine
        What was asked for.
    found : int
        GPUs of this machine.

    Raises
    ------
    ConfigError
        When it has some, or they were asked for, and not enough of them.
    """
    if engine.accelerator == "cpu" or (engine.accelerator == "auto" and not found):
        return False
    if engine.devices > found:
        raise ConfigError(
            f"--devices {engine.devices}: this machine has {found} GPU(s); ask for so many, "
            "or take --accelerator cpu"
        )
    return True


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
