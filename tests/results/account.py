"""What each set gave: ``frames.json`` for the next run, ``frames.md`` for the reader."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.results.harvest import STORED, Counts, reasons

_FILE = "frames.json"


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of every image."""

    #: what the run was asked for; another question needs another folder
    asked: str
    command: str
    date: str
    #: by set
    counts: Counts
    #: of the labelled store; None where labels are still missing
    store_version: str | None = None


def read(folder: Path, asked: str) -> Account | None:
    """Return what an earlier run left, None when there was none.

    Raises
    ------
    SystemExit
        When the earlier run was asked for something else.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    found = Account(**json.loads(path.read_text("utf-8")))
    if found.asked != asked:
        raise SystemExit(f"{folder}: holds {found.asked}, not {asked}; name another --out")
    return found


def write(folder: Path, made: Account) -> None:
    """Write both files."""
    (folder / "frames.md").write_text(table(made), "utf-8")
    part = folder / f"{_FILE}.part"
    part.write_text(json.dumps(asdict(made), indent=1) + "\n", "utf-8")
    part.replace(folder / _FILE)


def now() -> str:
    """Return the time as an account tells it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def table(account: Account) -> str:
    """Return the counts as Markdown."""
    counts = account.counts
    columns = ["sent", STORED, *reasons(counts)]
    # labels are counted on top of frames
    columns = [name for name in columns if name not in _LABELS] + list(_LABELS)
    lines = [_line(name, [row.get(what, 0) for what in columns]) for name, row in counts.items()]
    totals = [sum(row.get(what, 0) for row in counts.values()) for what in columns]
    ruler = _line("---", ["---:"] * len(columns))
    return "\n".join(
        [
            f"`{account.command}`, {account.date}. "
            f"Store {account.store_version or 'without labels'}; **proxy tags**.",
            "",
            _line("set", columns),
            ruler,
            *lines,
            _line("all", totals),
            "",
        ]
    )


_LABELS = ("masks", "classes")


def _line(name: str, cells: Sequence[object]) -> str:
    return "| " + " | ".join([name, *map(str, cells)]) + " |"
