"""How long cells will take, from how long others took."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from dicom_node.errors import StoreError
from training.pack import Pack
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.matrix import Speed

Key = tuple[object, ...]


class Clock:
    """Learns from each finished cell.

    Parameters
    ----------
    images : mapping
        Training images that a cell goes over, in all epochs, by its name.
    speed : Speed, optional
        What to reckon with before the first cell is finished.
    """

    def __init__(self, images: Mapping[str, int], speed: Speed | None) -> None:
        self._images = dict(images)
        self._speed = speed
        # images and seconds of what is finished, for each kind of cell
        self._seen: dict[Key, list[tuple[int, float]]] = defaultdict(list)

    def finished(self, cell: Cell, seconds: float) -> None:
        """Learn how long a cell took."""
        for key in _keys(cell):
            self._seen[key].append((self._images[cell.name], seconds))

    def images(self, cell: Cell) -> int:
        """Return how many training images a cell goes over, in all epochs."""
        return self._images[cell.name]

    def leave_out(self, cell: Cell) -> None:
        """Count a cell as nothing to do."""
        self._images[cell.name] = 0

    def seconds(self, cell: Cell) -> float | None:
        """Return how long a cell will take; None when nothing like it was ever measured."""
        images = self._images[cell.name]
        for key in _keys(cell):
            done = sum(each for each, _ in self._seen[key])
            if done:
                return images * sum(seconds for _, seconds in self._seen[key]) / done
        if self._speed is None:
            return None
        kind = self._speed.finetune if isinstance(cell, FinetuneCell) else self._speed.pretrain
        return images / kind

    def total(self, cells: Iterable[Cell]) -> float | None:
        """Return how long cells will take together; None when that is not known of one."""
        each = [self.seconds(cell) for cell in cells]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None


def images(plan: Plan, pack: Pack) -> dict[str, int]:
    """Return how many training images each cell goes over, in all epochs, by its name."""
    pretrain = len(pack.select(split="train"))
    found = {cell.name: pretrain * cell.settings.epochs for cell in plan.pretrain}
    for cell in plan.finetune:
        found[cell.name] = _images_of(cell, pack) * cell.settings.epochs
    return found


def _images_of(cell: FinetuneCell, pack: Pack) -> int:
    settings = cell.settings
    try:
        rows = pack.select(split="train", labelled=settings.task, labels=settings.labels)
    except StoreError:
        return 0  # the cell will say what is missing
    return len(pack.share(rows, settings.share, settings.seed, task=settings.task))


def _keys(cell: Cell) -> list[Key]:
    """Return what a cell is like, the most alike first."""
    encoder = cell.settings.encoder
    if isinstance(cell, FinetuneCell):
        kind: Key = ("finetune", encoder, cell.task)
        # at a small share the validation takes most of the time
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
