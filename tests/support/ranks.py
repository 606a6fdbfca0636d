"""What each of two processes gets, where only the first of them looks or both learn; a file each.

python -m tests.support.ranks refused PACK RUN OUT
python -m tests.support.ranks shared STORE OUT
python -m tests.support.ranks series STORE RUN OUT
python -m tests.support.ranks uneven OUT
"""

import sys
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.store import WeakLabelStore
from tests.support.frames import new_frame
from tests.support.volumes import TINY, slopes
from training import pack, recipes, runs
from training.commands.sources import launched
from training.config import Engine, PretrainSettings, Size
from training.engine import comes_first, launch, prepare
from training.loop import Plan, fit
from training.pretrain import pretrain
from training.volumes.running import name_series
from training.volumes.source import VolumeBatches, from_store
from training.volumes.tasks import NamingSeries

ENGINE = Engine(accelerator="cpu", devices=2, precision="32-true")
SIZE = Size(height=64, width=64)


def refused(folder: Path, run: Path, out: Path) -> None:
    """Pretrain into a folder that only the first process looks into; write what it says."""
    fabric = launch(ENGINE)
    settings = PretrainSettings(strategy=recipes.load("ce"), encoder="small", size=SIZE)
    try:
        pretrain(settings, pack.open(folder), fabric, run=run)
        said = "trained"
    except NodeError as exc:
        said = f"{type(exc).__name__}: {exc}"
    (out / str(fabric.global_rank)).write_text(said)


def shared(store: Path, out: Path) -> None:
    """Open the pack of a store into which a study comes while the second process starts."""
    fabric = prepare(ENGINE)
    if not comes_first(fabric):
        with WeakLabelStore(store) as opened:
            opened.add_frame(new_frame(seed=99, instance="9" * 32))
    found = launched(fabric, lambda: pack.ensure(store, None, SIZE))
    (out / str(fabric.global_rank)).write_text(str(found.folder.resolve()))


def series(store: Path, run: Path, out: Path) -> None:
    """Learn what series are in a run, and then in the loop alone; write what was learned there."""
    fabric = launch(ENGINE)
    volumes = from_store(store)
    name_series(TINY, volumes, fabric, run=run)
    fabric.seed_everything(TINY.seed, workers=True, verbose=False)
    task = NamingSeries(TINY)

    def batches(split: str) -> VolumeBatches:
        return VolumeBatches(
            volumes,
            volumes.of_split(split),
            batch_size=2,
            training=split == "train",
            shrink=TINY.shrink,
            rank=fabric.global_rank,
            world=fabric.world_size,
            device=fabric.device,
        )

    fit(fabric, task, (batches("train"), batches("validation")), Plan(epochs=1, seed=0))
    learned = dict(task.network.named_parameters())
    runs.save(out / f"{fabric.global_rank}.pt", {n: p.detach() for n, p in learned.items()})


def uneven(out: Path) -> None:
    """Write what one step changes, where the first process knows most of the labels."""
    fabric = launch(ENGINE)
    runs.save(out / f"{fabric.global_rank}.pt", slopes(fabric))


if __name__ == "__main__":
    scenario, *paths = sys.argv[1:]
    scenarios = {"refused": refused, "shared": shared, "series": series, "uneven": uneven}
    scenarios[scenario](*map(Path, paths))
