"""What the benchmark of training compares: one pretraining step, fed and computed in three ways."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from dicom_node.store.files import path_of
from training import pretexts, recipes
from training.augment import FLIP_PROBABILITY, LARGEST_SHIFT
from training.batches import Batches
from training.config import EncoderName, PretrainSettings, Size
from training.loop import Plan, fit, measure
from training.pack import Pack

#: More processes that read frames gain nothing on the machines that were looked at.
_MOST_WORKERS = 8
_MATRIX = 8192
_MULTIPLICATIONS = 20


@dataclass(frozen=True, kw_only=True)
class Work:
    """The step that every arm takes, again and again."""

    encoder: EncoderName
    size: Size
    batch_size: int
    #: of a measured epoch
    steps: int
    recipe: str = "ce_dcm"
    compile: bool = False

    def pretext(self) -> pretexts.Pretext:
        """Return it with new weights, always the same."""
        torch.manual_seed(0)
        strategy = recipes.load(self.recipe)
        return pretexts.build(
            PretrainSettings(
                strategy=strategy, encoder=self.encoder, size=self.size, batch_size=self.batch_size
            )
        )


class Synthetic:
    """Batches that are there before anybody asks: what a step costs by itself."""

    def __init__(self, work: Work, device: torch.device, *, steps: int) -> None:
        rng = torch.Generator().manual_seed(0)
        shape = (work.batch_size, 1, work.size.height, work.size.width)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
        tags = torch.randint(0, 2, (work.batch_size, 10), generator=rng).float()
        self._batch = {"frames": frames.to(device), "tags": tags.to(device)}
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield the same batch; a copy, because a step may add to it."""
        del number
        for _ in range(self._steps):
            yield dict(self._batch)


def from_the_store(work: Work, fabric: Fabric, pack: Pack) -> float:
    """Return frames/s of the project's own loop on a pack of the store."""
    # as many rows as the epoch is long: a pack of few frames is gone through several times
    rows = np.resize(pack.select(), work.batch_size * work.steps)
    batches = Batches(
        pack,
        rows,
        targets=("tags",),
        batch_size=work.batch_size,
        training=True,
        device=fabric.device,
    )
    return _rate(work, fabric, batches)


def synthetic(work: Work, fabric: Fabric) -> float:
    """Return frames/s of the same loop on tensors that lie on the device."""
    return _rate(work, fabric, Synthetic(work, fabric.device, steps=work.steps))


def validating(work: Work, fabric: Fabric, pack: Pack) -> float:
    """Return frames/s of a validation pass, which has no way back; the first one warms up."""
    rows = np.resize(pack.select(), work.batch_size * work.steps)
    batches = Batches(
        pack,
        rows,
        targets=("tags",),
        batch_size=work.batch_size,
        training=False,
        device=fabric.device,
    )
    task = work.pretext()
    for player in task.players.values():
        player.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = 0.0
    for _ in range(2):
        started = time.perf_counter()
        # what it returns lies on the CPU: the device is finished then
        measure(fabric, task, batches)
    return len(rows) / (time.perf_counter() - started)


def plain(work: Work, device: torch.device, pack: Pack, store: Path) -> float:
    """Return frames/s of what one writes first: float32, eager, Pillow in a DataLoader.

    Networks, losses, augmentation and optimizers are the same, and the PNG files those of the
    store.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    rows = np.resize(pack.select(), work.batch_size * work.steps)
    files = [path_of(store / "frames", str(pack.rows.frame_id[row])) for row in rows]
    dataset = Pictures(files, pack.tags()[rows], work.size)
    loader = DataLoader(
        dataset,
        batch_size=work.batch_size,
        shuffle=True,
        num_workers=min(torch.get_num_threads(), _MOST_WORKERS),
        pin_memory=device.type == "cuda",
        persistent_workers=True,
        drop_last=True,
    )
    task = work.pretext()
    networks = {name: player.network.to(device) for name, player in task.players.items()}
    rates = []
    for _ in range(2):  # the first epoch starts the workers
        started = time.perf_counter()
        for frames, tags in loader:
            batch = {"frames": frames.to(device), "tags": tags.to(device)}
            for turn, player in task.players.items():
                loss = task.loss(turn, networks, batch)["loss"]
                player.optimizer.zero_grad()
                loss.backward()
                player.optimizer.step()
        _finish(device)
        rates.append(len(rows) / (time.perf_counter() - started))
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.benchmark = before[1]
    return rates[-1]


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """PNG files by Pillow, resized, flipped and shifted one by one."""

    def __init__(self, files: Sequence[Path], tags: np.ndarray, size: Size) -> None:
        self._files, self._tags, self._size = files, tags, size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        size = self._size.width, self._size.height
        with Image.open(self._files[place]) as image:
            grey = image.convert("L").resize(size, Image.Resampling.BILINEAR)
        draws = torch.rand(3)
        if draws[0] < FLIP_PROBABILITY:
            grey = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        right, down = ((2 * draws[1:] - 1) * LARGEST_SHIFT * torch.tensor(size)).tolist()
        moved = grey.transform(size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
        return torch.from_numpy(np.array(moved))[None], torch.from_numpy(self._tags[place])


def step_flops(work: Work, device: torch.device) -> float:
    """Return the floating-point operations of one step for each of its frames, counted by torch."""
    task = work.pretext()
    networks = {name: player.network.to(device) for name, player in task.players.items()}
    [batch] = Synthetic(work, device, steps=1).epoch(0)
    with FlopCounterMode(display=False) as counter:
        for turn in task.players:
            task.loss(turn, networks, batch)["loss"].backward()
    return counter.get_total_flops() / work.batch_size


def bf16_peak() -> float:
    """Return the operations/s of large bf16 matrix products on the GPU, which nothing exceeds."""
    shape = (_MATRIX, _MATRIX)
    left, right = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(_MULTIPLICATIONS):
            torch.matmul(left, right)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        best = max(best, 2 * _MATRIX**3 * _MULTIPLICATIONS / seconds)
    return best


def _rate(work: Work, fabric: Fabric, batches: Batches | Synthetic) -> float:
    """Return frames/s of the second epoch; the first one warms up."""
    one = Synthetic(work, fabric.device, steps=1)
    plan = Plan(epochs=2, seed=0, compile=work.compile)
    fitted = fit(fabric, work.pretext(), (batches, one), plan)  # type: ignore[arg-type]
    return fitted.epochs[-1].frames_per_s


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
