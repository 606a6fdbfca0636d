"""How long cells will take, from how long others took."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.errors import StoreError
from training.pack import Pack
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.matrix import Speed

Key = tuple[object, ...]
#: What a validation image costs against a training image: there is no way back through the network.
VALIDATION_COST: Final = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a cell goes over in every epoch."""

    epochs: int
    training: int
    validation: int

    @property
    def images(self) -> float:
        """Training images that would take as long."""
        return self.epochs * (self.training + VALIDATION_COST * self.validation)


class Clock:
    """Learns from each finished cell.

    Parameters
    ----------
    loads : mapping
        By the cell's name.
    speed : Speed, optional
        What to reckon with before the first cell is finished.
    """

    def __init__(self, loads: Mapping[str, Load], speed: Speed | None) -> None:
        self.loads = dict(loads)
        self._speed = speed
        # images and seconds of what is finished, for each kind of cell
        self._seen: dict[Key, list[tuple[float, float]]] = defaultdict(list)

    def finished(self, cell: Cell, seconds: float) -> None:
        """Learn how long a cell took."""
        for key in _keys(cell):
            self._seen[key].append((self.loads[cell.name].images, seconds))

    def leave_out(self, cell: Cell) -> None:
        """Count a cell as nothing to do."""
        self.loads[cell.name] = Load(epochs=0, training=0, validation=0)

    def seconds(self, cell: Cell) -> float | None:
        """Return how long a cell will take; None when nothing like it was ever measured."""
        images = self.loads[cell.name].images
        for key in _keys(cell):
            done = sum(each for each, _ in self._seen[key])
            if done:
                return images * sum(seconds for _, seconds in self._seen[key]) / done
        if self._speed is None:
            return None
        is_finetune = isinstance(cell, FinetuneCell)
        return images / (self._speed.finetune if is_finetune else self._speed.pretrain)

    def total(self, cells: Iterable[Cell]) -> float | None:
        """Return how long cells will take together; None when that is not known of one."""
        each = [self.seconds(cell) for cell in cells]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None


def loads(plan: Plan, pack: Pack) -> dict[str, Load]:
    """Return what each cell goes over, by its name."""
    return {cell.name: _load(cell, pack) for cell in plan.cells}


def _load(cell: Cell, pack: Pack) -> Load:
    training, validation = _counts(cell, pack)
    return Load(epochs=cell.settings.epochs, training=training, validation=validation)


def _counts(cell: Cell, pack: Pack) -> tuple[int, int]:
    if not isinstance(cell, FinetuneCell):
        return len(pack.select(split="train")), len(pack.select(split="validation"))
    settings = cell.settings
    try:
        training, validation = (
            pack.select(split=split, labelled=settings.task, labels=settings.labels)
            for split in ("train", "validation")
        )
    except StoreError:
        return 0, 0  # the cell will say what is missing
    shared = pack.share(training, settings.share, settings.seed, task=settings.task)
    return len(shared), len(validation)


def _keys(cell: Cell) -> list[Key]:
    """Return what a cell is like, the most alike first."""
    encoder = cell.settings.encoder
    if isinstance(cell, FinetuneCell):
        kind: Key = ("finetune", encoder, cell.task)
        # batches of another size have another speed
        like = (*kind, cell.settings.share)
        return [(*like, cell.settings.freeze), like, kind, kind[:2], kind[:1]]
    return [("pretrain", encoder, cell.strategy), ("pretrain", encoder), ("pretrain",)]


def duration(seconds: float) -> str:
    """Say a duration in the two units that matter: "48 s", "12 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
