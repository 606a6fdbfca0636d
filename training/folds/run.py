"""Run a table over folds: fold by fold, each strategy pretrained and fine-tuned in both modes.

What is finished is not repeated, what is half done goes on; what cannot be trained is written down
with its reason while the rest goes on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lightning_fabric import Fabric

from dicom_node.errors import StoreError
from training import runs
from training.folds.finetuning import finetune
from training.folds.frames import FoldedFrames
from training.folds.matrix import Folds, Mode
from training.folds.splitting import split
from training.pack import Pack
from training.pretrain import pretrain
from training.runs import RunInfo
from training.tasks import starts


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning of one strategy on one fold."""

    strategy: str
    mode: Mode
    fold: int
    seed: int

    @property
    def folder(self) -> Path:
        """Below the folder of the table."""
        return Path("runs") / f"fold-{self.fold}" / f"seed-{self.seed}" / self.strategy / self.mode


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Where and with what a table is made."""

    table: Folds
    frames: FoldedFrames
    out: Path
    fabric: Fabric
    #: folder of published files
    imagenet: Path | None = None
    #: told of each cell that is finished, and of what is left out
    say: Callable[[str], None] = lambda _: None


@dataclass
class Results:
    """What came out so far."""

    cells: dict[Cell, RunInfo] = field(default_factory=dict)
    #: each pretraining, by strategy
    pretrained: dict[str, list[RunInfo]] = field(default_factory=dict)
    #: why a strategy is not there, the first reason
    left_out: dict[str, str] = field(default_factory=dict)


def run(shop: Shop, after_fold: Callable[[Results], None] = lambda _: None) -> Results:
    """Make the table.

    Parameters
    ----------
    shop : Shop
    after_fold : callable
        Told of what is there after each fold and seed.

    Raises
    ------
    StoreError
        When a fold cannot be split; nothing is trained then.
    """
    results = Results()
    # all of them first: a fold that cannot be split is said before anything is trained
    packs = {
        (fold, seed): split(
            shop.frames,
            fold,
            validation=shop.table.validation,
            seed=seed,
            most_frames=shop.table.most_frames,
        )
        for seed in shop.table.seeds
        for fold in shop.frames.names
    }
    for place, pack in packs.items():
        for name in shop.table.strategies:
            _try(shop, pack, results, name, place)
        after_fold(results)
    return results


def _try(shop: Shop, pack: Pack, results: Results, name: str, place: tuple[int, int]) -> None:
    """Run a strategy on a fold; a store that cannot teach it leaves it out."""
    try:
        for cell, info in _cells(shop, pack, results, name, place):
            results.cells[cell] = info
            shop.say(
                f"fold {cell.fold}, seed {cell.seed}, {name}, {cell.mode}: "
                f"accuracy {info.metrics['test_accuracy']:.3f}, {info.seconds:.0f} s"
            )
    except StoreError as exc:
        if name not in results.left_out:
            shop.say(f"left out: {name}: {exc}")
        results.left_out.setdefault(name, str(exc))


def _cells(
    shop: Shop, pack: Pack, results: Results, name: str, place: tuple[int, int]
) -> Iterator[tuple[Cell, RunInfo]]:
    fold, seed = place
    strategy = shop.table.strategy(name)
    start = None
    if strategy.pretext is not None:
        start = shop.out / Cell(strategy=name, mode="all", fold=fold, seed=seed).folder.with_name(
            "pretrain"
        )
        settings = shop.table.pretraining(name, strategy, seed)
        info = pretrain(settings, pack, shop.fabric, run=start)
        results.pretrained.setdefault(name, []).append(info)
    imagenet = None
    if strategy.weights == "imagenet":
        imagenet = starts.needed(shop.imagenet, shop.table.encoder)
    for mode in shop.table.finetune:
        cell = Cell(strategy=name, mode=mode, fold=fold, seed=seed)
        info = finetune(
            shop.table.finetuning(mode, seed),
            pack,
            shop.fabric,
            run=shop.out / cell.folder,
            start=start,
            imagenet=imagenet,
        )
        _tidy(shop, cell)
        yield cell, info


def _tidy(shop: Shop, cell: Cell) -> None:
    """Keep the weights of the first fold and seed alone: those of all would fill disks."""
    is_first = (cell.fold, cell.seed) == (shop.frames.names[0], shop.table.seeds[0])
    if shop.fabric.is_global_zero and not is_first:
        (shop.out / cell.folder / runs.NETWORK).unlink(missing_ok=True)
