"""What each of two processes gets where only the first of them looks, one file a process.

python -m tests.support.ranks refused PACK RUN OUT
python -m tests.support.ranks shared STORE OUT
"""

import sys
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.store import WeakLabelStore
from tests.support.frames import new_frame
from training import pack, recipes
from training.commands.sources import launched
from training.config import Engine, PretrainSettings, Size
from training.engine import comes_first, launch, prepare
from training.pretrain import pretrain

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


if __name__ == "__main__":
    scenario, *paths = sys.argv[1:]
    {"refused": refused, "shared": shared}[scenario](*map(Path, paths))
