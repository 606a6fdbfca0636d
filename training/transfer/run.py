"""Run a table of lesions: seed by seed, each strategy pretrained on clips and trained on masks.

What is finished is not repeated, what is half done goes on; what cannot be trained is written down
with its reason while the rest goes on.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from lightning_fabric import Fabric

from dicom_node.errors import StoreError
from training import runs
from training.detect import check_tested, detect
from training.folds.frames import FoldedFrames
from training.folds.splitting import split
from training.loop import Epoch
from training.pack import Pack
from training.pretrain import pretrain
from training.runs import RunInfo
from training.tasks import labels, starts
from training.transfer.matrix import Transfer

AfterEpoch = Callable[[Epoch], None]
#: gives what is told of each epoch of a run: its folder, what it is, how many epochs it has
Telling = Callable[[Path, str, int], AbstractContextManager[AfterEpoch]]


def silent(run: Path, what: str, epochs: int) -> AbstractContextManager[AfterEpoch]:
    """Tell nobody."""
    del run, what, epochs
    return nullcontext(lambda _: None)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One detector."""

    strategy: str
    seed: int

    @property
    def folder(self) -> Path:
        """Below the folder of the table."""
        return Path("runs") / f"seed-{self.seed}" / self.strategy


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Where and with what a table is made."""

    table: Transfer
    #: to pretrain on
    clips: FoldedFrames
    #: with masks
    lesions: Pack
    out: Path
    fabric: Fabric
    #: folder of published files
    imagenet: Path | None = None
    #: told of each cell that is finished, and of what is left out
    say: Callable[[str], None] = lambda _: None
    telling: Telling = silent

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order in which they run: a table on the way compares like with like."""
        table = self.table
        return [Cell(strategy=name, seed=seed) for seed in table.seeds for name in table.strategies]


@dataclass
class Results:
    """What came out so far."""

    cells: dict[Cell, RunInfo] = field(default_factory=dict)
    #: seconds of each pretraining, by strategy
    pretrained: dict[str, list[float]] = field(default_factory=dict)
    #: why a strategy is not there, the first reason
    left_out: dict[str, str] = field(default_factory=dict)


def run(shop: Shop, after_cell: Callable[[Results], None] = lambda _: None) -> Results:
    """Make the table.

    Parameters
    ----------
    shop : Shop
    after_cell : callable
        Told of what is there after each cell.

    Raises
    ------
    StoreError
        When no test frame shows a lesion: known before hours of pretraining.
    """
    wanted = shop.table.detecting(shop.table.seeds[0])
    check_tested(shop.lesions, labels.splits(shop.lesions, wanted)["test"])
    results = Results()
    for number, cell in enumerate(shop.cells, start=1):
        place = f"{number}/{len(shop.cells)} {cell.strategy}, seed {cell.seed}"
        try:
            info = _made(shop, results, cell, place)
        except StoreError as exc:
            if cell.strategy not in results.left_out:
                shop.say(f"left out: {cell.strategy}: {exc}")
            results.left_out.setdefault(cell.strategy, str(exc))
        else:
            results.cells[cell] = info
            shop.say(
                f"{place}: AP50 of boxes {info.metrics['test_box_ap50']:.3f}, of outlines "
                f"{info.metrics['test_mask_ap50']:.3f}, {info.seconds:.0f} s"
            )
        after_cell(results)
    return results


def _made(shop: Shop, results: Results, cell: Cell, place: str) -> RunInfo:
    """Pretrain where the strategy does, and train the detector."""
    table, folder = shop.table, shop.out / cell.folder
    strategy = table.strategy(cell.strategy)
    start = imagenet = None
    if strategy.pretext is not None:
        start = folder / "pretrain"
        info = _pretrained(shop, cell, start, f"{place}: pretrain")
        results.pretrained.setdefault(cell.strategy, []).append(info.seconds)
    elif strategy.weights == "imagenet":
        imagenet = starts.needed(shop.imagenet, table.encoder)
    settings = table.detecting(cell.seed)
    run = folder / "detect"
    with shop.telling(run, f"{place}: detect", settings.epochs) as after_epoch:
        info = detect(
            settings,
            shop.lesions,
            shop.fabric,
            run=run,
            start=start,
            imagenet=imagenet,
            after_epoch=after_epoch,
        )
    if shop.fabric.is_global_zero and cell.seed != table.seeds[0]:
        # those of all seeds would fill disks
        (run / runs.NETWORK).unlink(missing_ok=True)
    return info


def _pretrained(shop: Shop, cell: Cell, run: Path, what: str) -> RunInfo:
    table = shop.table
    settings = table.pretraining(cell.strategy, table.strategy(cell.strategy), cell.seed)
    clips = split(
        shop.clips,
        table.fold,
        validation=table.validation,
        seed=cell.seed,
        most_frames=table.most_frames,
    )
    with shop.telling(run, what, settings.epochs) as after_epoch:
        return pretrain(settings, clips, shop.fabric, run=run, after_epoch=after_epoch)
