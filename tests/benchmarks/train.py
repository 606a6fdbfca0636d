"""Training from the store, measured: ``python -m tests.benchmarks.train``, or ``make bench-train``.

One pretraining step of CE+DCM in three ways, in turns: fed from the store, fed with tensors that
lie on the device, and as one writes it first (float32, eager, Pillow in a DataLoader). With a GPU
the papers' setting, VGG16-BN at 256 x 384; without one a ResNet-18 at 128 x 192.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node.phantom.study import cohort
from tests.benchmarks import training_arms as arms
from tests.benchmarks.report import BUILD, Row, show_goals, show_others, write
from tests.benchmarks.training_arms import Work
from tests.support.phantoms import fill_store
from training import pack
from training.config import EncoderName, Engine, Size
from training.engine import launch
from training.pack import Pack

#: The papers' pretraining, and the frames on which it chooses its epoch.
FRAMES, VALIDATION_FRAMES, EPOCHS = 9_814, 2_453, 200
GOAL_MINUTES = 30.0
AGAINST_SYNTHETIC, AGAINST_PLAIN_CPU, AGAINST_PLAIN_GPU = 0.95, 1.5, 3.0
NO_GPU = "no GPU on this machine: run it where there is one"
STORE, SYNTHETIC, PLAIN = "from the store", "synthetic tensors", "plain float32 loop"
VALIDATION = "a validation pass"
_PATIENTS = 24
_UNIT = "frames/s"

Rates = dict[str, list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/train.json``."""
    chosen = _arguments(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    fabric = launch(Engine(accelerator=chosen.accelerator, precision=chosen.precision))
    is_gpu = fabric.device.type == "cuda"
    work = _work(chosen, is_gpu=is_gpu)
    with tempfile.TemporaryDirectory() as scratch:
        store = chosen.store or _phantoms(Path(scratch) / "store")
        packed = pack.ensure(store, Path(scratch) / "packs", work.size)
        rates = measured(work, fabric, packed, store, rounds=chosen.rounds, console=console)
        rates[VALIDATION] = [arms.validating(work, fabric, packed)]
    rows = [*_rows(rates, is_gpu=is_gpu), *_paper_rows(rates, work, is_gpu=is_gpu)]
    note = _note(work, fabric, packed, rounds=chosen.rounds)
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m tests.benchmarks.train", *words])
    path = write("train", rows, command=command, note=note, folder=chosen.folder)
    console.print(note, highlight=False)
    show_goals(rows, console)
    show_others(rows, console)
    console.print(f"written to {path}")
    return 0


def measured(
    work: Work, fabric: Fabric, packed: Pack, store: Path, *, rounds: int, console: Console
) -> Rates:
    """Return frames/s by arm, round by round; the arms take turns."""
    rates: Rates = {STORE: [], SYNTHETIC: [], PLAIN: []}
    run = {
        STORE: lambda: arms.from_the_store(work, fabric, packed),
        SYNTHETIC: lambda: arms.synthetic(work, fabric),
        PLAIN: lambda: arms.plain(work, fabric.device, packed, store),
    }
    for turn in range(rounds):
        for arm in list(run)[:: -1 if turn % 2 else 1]:
            rates[arm].append(run[arm]())
            console.print(f"round {turn + 1}: {arm}: {rates[arm][-1]:.1f} {_UNIT}")
    return rates


def _rows(rates: Rates, *, is_gpu: bool) -> Iterator[Row]:
    for arm, found in rates.items():
        step, fed = (arm, STORE) if arm == VALIDATION else ("a step of pretraining", arm)
        yield Row(
            row=f"{step} | {fed} | rate",
            value=median(found),
            unit=_UNIT,
            low=min(found),
            high=max(found),
        )
    goals = {
        SYNTHETIC: AGAINST_SYNTHETIC,
        PLAIN: AGAINST_PLAIN_GPU if is_gpu else AGAINST_PLAIN_CPU,
    }
    for against, goal in goals.items():
        ratios = [ours / other for ours, other in zip(rates[STORE], rates[against], strict=True)]
        ratio = median(ratios)
        yield Row(
            row=f"a step of pretraining {STORE}",
            value=median(rates[STORE]),
            unit=_UNIT,
            against=against,
            ratio=ratio,
            goal=goal,
            met=ratio >= goal,
            low=min(ratios),
            high=max(ratios),
        )


def _paper_rows(rates: Rates, work: Work, *, is_gpu: bool) -> Iterator[Row]:
    """Yield what the papers' whole pretraining takes; without their setting, why there is none."""
    name = f"{EPOCHS} epochs of {FRAMES:,} frames, VGG16-BN, 256x384"
    is_theirs = work.encoder is EncoderName.VGG16_BN and work.size == Size()
    goal, share = f"{GOAL_MINUTES:g} minutes", "share of the bf16 peak of a matrix product"
    if not (is_gpu and is_theirs):
        why = "measured with another encoder or size" if is_gpu else NO_GPU
        yield Row(row=name, value=None, unit="minutes", against=goal, goal=1.0, why=why)
        yield Row(row=f"{name}: {share}", value=None, unit="", why=why)
        return
    yield from _minutes(rates, name)
    rate = median(rates[STORE])
    flops, peak = arms.step_flops(work, torch.device("cuda")), arms.bf16_peak()
    yield Row(
        row=f"{name}: {share}",
        value=rate * flops / peak,
        unit="",
        why=f"{flops / 1e9:.1f} GFLOP a frame; the peak is {peak / 1e12:.0f} TFLOP/s",
    )


def _minutes(rates: Rates, name: str) -> Iterator[Row]:
    """Yield how long it takes: the steps alone, and with the validation after every epoch."""
    training = EPOCHS * FRAMES / median(rates[STORE]) / 60
    validation = EPOCHS * VALIDATION_FRAMES / median(rates[VALIDATION]) / 60
    minutes_of = {
        f"{name}: training steps alone": training,
        f"{name}, a validation pass over {VALIDATION_FRAMES:,} after each": training + validation,
    }
    for row, minutes in minutes_of.items():
        yield Row(
            row=row,
            value=minutes,
            unit="minutes",
            against=f"{GOAL_MINUTES:g} minutes",
            ratio=GOAL_MINUTES / minutes,
            goal=1.0,
            met=minutes <= GOAL_MINUTES,
            why="without checkpoints, one every 30 s at most",
        )


def _note(work: Work, fabric: Fabric, packed: Pack, *, rounds: int) -> str:
    device = torch.cuda.get_device_name() if fabric.device.type == "cuda" else "CPU"
    return (
        f"{work.recipe}, {work.encoder}, {work.size}, batches of {work.batch_size}, "
        f"{'compiled, ' if work.compile else ''}{fabric._precision.precision} on {device} with "
        f"{torch.get_num_threads()} threads; {rounds} rounds of {work.steps} steps, "
        f"{len(packed.rows)} frames in the store; load average {os.getloadavg()[0]:.1f} after"
    )


def _work(chosen: argparse.Namespace, *, is_gpu: bool) -> Work:
    """Return what is measured: where nothing is said, what fits the device."""
    size = Size() if is_gpu else Size(height=128, width=192)
    encoder = EncoderName.VGG16_BN if is_gpu else EncoderName.RESNET18
    return Work(
        encoder=EncoderName(chosen.encoder or encoder),
        size=Size(height=chosen.height or size.height, width=chosen.width or size.width),
        batch_size=chosen.batch_size,
        steps=chosen.steps or (FRAMES // chosen.batch_size if is_gpu else 6),
        compile=chosen.compile,
    )


def _phantoms(folder: Path) -> Path:
    fill_store(folder, cohort(seed=0, patients=_PATIENTS))
    return folder


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.train", description=__doc__)
    parser.add_argument("--store", type=Path, help="a weak-label store; default: phantoms")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--precision", choices=("auto", "32-true", "bf16-mixed"), default="auto")
    parser.add_argument("--encoder", choices=list(EncoderName))
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, help="of an epoch; each arm runs two a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="hand networks to torch.compile")
    parser.add_argument("--folder", type=Path, default=BUILD, help="where train.json goes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
