"""The training loop, on one page: it knows batches, turns and measures, and no task.

Lightning Fabric moves it between a CPU, a GPU and many machines; nothing else is hidden. All that
is random in an epoch follows from the seed and the epoch's number, so a run that was killed goes on
at its last checkpoint as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dicom_node.errors import StoreError
from training import runs
from training.batches import Source
from training.engine import first_alone

Batch = dict[str, Tensor]
Networks = Mapping[str, nn.Module]


@dataclass
class Player:
    """A network that learns in its own turn, by its own optimizer."""

    network: nn.Module
    optimizer: Optimizer
    #: steps once a batch
    scheduler: LRScheduler | None = None
    #: the network for the turns of others: at the precision of the run and compiled where the run
    #: is, but of this process alone, because gradients into it are nobody's to share
    judge: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.judge = self.network


class Task(Protocol):
    """What is learned: a pretext of pretraining, or a task of fine-tuning."""

    @property
    def players(self) -> dict[str, Player]:
        """Who learns, in the order of their turns in every step."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the M columns of `measure`; the first is ``loss``, which chooses the epoch."""

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return what a player makes small as ``loss``, (), and parts of it to be told of.

        What an earlier turn of the same step left in `batch` may be used.
        """

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return one row a frame, (N, M); NaN does not count."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training frames gave."""

    number: int
    #: means of what the losses told, ``turn/part``
    training: dict[str, float]
    #: the task's measures on the validation frames
    validation: dict[str, float]
    learning_rate: float
    seconds: float
    frames_per_s: float
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a loop learns, and what it leaves on the way."""

    #: passes over the training frames; there is no early end
    epochs: int
    #: of what the networks draw, as dropout
    seed: int
    #: folder to leave checkpoints in, and to go on from one that is there
    run: Path | None = None
    #: a kill costs an epoch or so many seconds, whichever is longer
    checkpoint_s: float = 30.0
    #: hand the networks to ``torch.compile``
    compile: bool = False


@dataclass
class Fitted:
    """What a loop leaves."""

    #: weights of the chosen epoch, on the CPU, by player
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def chosen(self) -> Epoch:
        """The epoch with the lowest validation loss."""
        return next(epoch for epoch in reversed(self.epochs) if epoch.is_best)


def fit(
    fabric: Fabric,
    task: Task,
    batches: tuple[Source, Source],
    plan: Plan,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fitted:
    """Train, and keep the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    task : Task
        Its networks have the weights of the last epoch afterwards.
    batches : tuple of Source
        Training and validation.
    plan : Plan
        How long.
    after_epoch : callable
        Told of each epoch, those found in a checkpoint included.

    Raises
    ------
    StoreError
        When the loss is no number any more: nothing is kept of that epoch.
    OSError
        In every process, when the first one cannot write.
    """
    networks = {
        name: _set_up(fabric, player, compile_network=plan.compile)
        for name, player in task.players.items()
    }
    fitted = _resumed(task, plan.run)
    for epoch in fitted.epochs:
        after_epoch(epoch)
    leave = _leaving(task, fitted, plan, after_epoch)
    for number in range(len(fitted.epochs) + 1, plan.epochs + 1):
        started = time.monotonic()
        # one stream a process and epoch
        _seed(plan.seed, number, fabric.global_rank)
        training, frames = _train(fabric, task, networks, batches[0], number)
        seconds = time.monotonic() - started
        validation = _validate(fabric, task, networks, batches[1])
        epoch = Epoch(
            number=number,
            training=training,
            validation=validation,
            learning_rate=next(iter(task.players.values())).optimizer.param_groups[0]["lr"],
            seconds=round(seconds, 3),
            frames_per_s=round(frames / seconds, 1),
            is_best=not fitted.epochs or validation["loss"] < fitted.chosen.validation["loss"],
        )
        _check(epoch, fabric)
        fitted.epochs.append(epoch)
        if epoch.is_best:
            fitted.best = {name: _weights(player) for name, player in task.players.items()}
        first_alone(fabric, leave)
        if not fabric.is_global_zero:
            after_epoch(epoch)
    return fitted


@torch.no_grad()
def measure(fabric: Fabric, task: Task, batches: Source) -> NDArray[np.float64]:
    """Return the task's measures, (N, M), one row a frame in the order of the batches."""
    networks = {name: fabric.setup_module(p.network) for name, p in task.players.items()}
    for network in networks.values():
        network.eval()
    rows = [task.measure(networks, batch).double().cpu() for batch in batches.epoch(0)]
    return cast(NDArray[np.float64], torch.cat(rows).numpy())


def _set_up(fabric: Fabric, player: Player, *, compile_network: bool) -> nn.Module:
    network: nn.Module = player.network.to(memory_format=layout(player.network))
    if compile_network:
        network = cast(nn.Module, torch.compile(network))
    wrapped, optimizer = fabric.setup(network, player.optimizer)
    player.optimizer = optimizer
    player.judge = partial(_at_precision, fabric, network)
    return cast(nn.Module, wrapped)


def layout(network: nn.Module) -> torch.memory_format:
    """Return the layout in which CPUs and GPUs convolve fastest, of frames or of volumes."""
    is_3d = any(parameter.dim() == 5 for parameter in network.parameters())
    return torch.channels_last_3d if is_3d else torch.channels_last


def _at_precision(fabric: Fabric, network: nn.Module, *inputs: Tensor | None) -> Any:
    with fabric.autocast():
        return network(*inputs)


def _seed(*parts: int) -> None:
    """Begin torch's stream of random numbers anew, one stream an epoch and process."""
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


def _train(
    fabric: Fabric, task: Task, networks: Networks, batches: Source, number: int
) -> tuple[dict[str, float], int]:
    """Pass over the training frames once; return the means of the losses, and how many frames."""
    for network in networks.values():
        network.train()
    told: dict[str, Tensor] = {}
    frames = 0
    for batch in batches.epoch(number):
        frames += len(batch["frames"]) * fabric.world_size
        for turn, player in task.players.items():
            parts = task.loss(turn, networks, batch)
            player.optimizer.zero_grad(set_to_none=True)
            fabric.backward(parts["loss"])
            player.optimizer.step()
            if player.scheduler is not None:
                player.scheduler.step()
            for name, value in parts.items():
                key = f"{turn}/{name}"
                told[key] = told.get(key, torch.zeros((), device=value.device)) + value.detach()
    means = fabric.all_reduce({k: v / len(batches) for k, v in told.items()}, reduce_op="mean")
    return {n: float(value) for n, value in cast(dict[str, Tensor], means).items()}, frames


@torch.no_grad()
def _validate(fabric: Fabric, task: Task, networks: Networks, batches: Source) -> dict[str, float]:
    """Return each measure's mean over the frames of all processes; NaN where no frame gave one."""
    for network in networks.values():
        network.eval()
    table = torch.zeros(2, len(task.measures), dtype=torch.float64, device=fabric.device)
    for batch in batches.epoch(0):
        rows = task.measure(networks, batch).double()  # (N, M)
        table += torch.stack((rows.nansum(dim=0), rows.isfinite().sum(dim=0)))
    sums, counts = cast(Tensor, fabric.all_reduce(table, reduce_op="sum"))
    return dict(zip(task.measures, (sums / counts).tolist(), strict=True))


def _check(epoch: Epoch, fabric: Fabric) -> None:
    values = [*epoch.training.values(), epoch.validation["loss"]]
    if not all(map(math.isfinite, values)):
        is_whole = fabric.strategy.precision.precision == "32-true"
        cure = "" if is_whole else ", or --precision 32-true"
        raise StoreError(
            f"epoch {epoch.number}: the loss is no number any more; take a smaller "
            f"--learning-rate{cure}"
        )


def _weights(player: Player) -> dict[str, Tensor]:
    return {name: v.detach().cpu().clone() for name, v in player.network.state_dict().items()}


def _leaving(
    task: Task, fitted: Fitted, plan: Plan, after_epoch: Callable[[Epoch], None]
) -> Callable[[], None]:
    """Return what leaves a checkpoint where the last one is old enough, and tells of an epoch."""
    saved_at = -math.inf

    def leave() -> None:
        nonlocal saved_at
        if plan.run is not None and time.monotonic() - saved_at >= plan.checkpoint_s:
            saved_at = time.monotonic()
            _save(task, fitted, plan.run)
        after_epoch(fitted.epochs[-1])

    return leave


def _save(task: Task, fitted: Fitted, run: Path) -> None:
    players = {
        name: {
            "network": player.network.state_dict(),
            "optimizer": player.optimizer.state_dict(),
            "scheduler": player.scheduler.state_dict() if player.scheduler else {},
        }
        for name, player in task.players.items()
    }
    epochs = [asdict(epoch) for epoch in fitted.epochs]
    state: dict[str, Any] = {"players": players, "best": fitted.best, "epochs": epochs}
    runs.save(run / runs.CHECKPOINT, state)


def _resumed(task: Task, run: Path | None) -> Fitted:
    if run is None or not (run / runs.CHECKPOINT).exists():
        return Fitted()
    state = runs.load_state(run / runs.CHECKPOINT)
    for name, player in task.players.items():
        found = state["players"][name]
        player.network.load_state_dict(found["network"])
        player.optimizer.load_state_dict(found["optimizer"])
        if player.scheduler is not None:
            player.scheduler.load_state_dict(found["scheduler"])
    return Fitted(best=state["best"], epochs=[Epoch(**epoch) for epoch in state["epochs"]])
