"""What became of the cells of a matrix, beside their runs: time taken, reasons of failures."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import StoreError
from training import runs
from training.reproduce.cells import Cell

CELLS: Final = "cells.json"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of a cell when it was last tried."""

    #: from its begin to its end, scores included; None when it was killed in between
    seconds: float | None = None
    #: why it failed or was left out, "" when it did not
    reason: str = ""
    #: left out on purpose: what it needs was not given
    is_left_out: bool = False
    #: on what it was computed, in words
    machine: str = ""


@dataclass(frozen=True)
class Ledger:
    """One entry for each cell that was tried, on disk after each of them."""

    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    def put(self, cell: Cell, entry: Entry) -> None:
        """Write down what became of a cell."""
        self.entries[cell.name] = entry
        plain = {name: asdict(each) for name, each in self.entries.items()}
        runs.replace(self.path, json.dumps(plain, indent=1).encode())

    def seconds(self, cell: Cell) -> float | None:
        """Return how long a cell took, None when that is not known."""
        return self.entries.get(cell.name, Entry()).seconds

    def machines(self) -> list[str]:
        """Return on what the cells were computed."""
        return sorted({entry.machine for entry in self.entries.values() if entry.machine})

    def failed(self) -> dict[str, str]:
        """Return the reasons of the cells that failed."""
        return {n: e.reason for n, e in self.entries.items() if e.reason and not e.is_left_out}

    def left_out(self) -> dict[str, str]:
        """Return the reasons of the cells that were left out on purpose."""
        return {n: e.reason for n, e in self.entries.items() if e.is_left_out}


def read(out: Path) -> Ledger:
    """Return the ledger of a matrix, empty where there is none yet.

    Raises
    ------
    StoreError
        When the file is damaged.
    """
    path = out / CELLS
    if not path.exists():
        return Ledger(path)
    try:
        plain: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
        return Ledger(path, {name: Entry(**entry) for name, entry in plain.items()})
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(
            f"{path}: damaged ({type(exc).__name__}); delete it, finished cells stay finished"
        ) from None
