"""Write ``docs/performance.md`` out of ``build/bench``: ``python -m tests.benchmarks.docs``.

What stands between the two marks is written by hand and stays.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.report import BUILD, Row, cell, from_json, number, pivots

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- by hand -->", "<!-- by the command -->"
_FIRST = ("ingest", "growth", "store", "train", "serve", "torture")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; keep its part by hand."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.docs", description=__doc__)
    parser.add_argument("--folder", type=Path, default=BUILD, help="where the benchmarks wrote")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args(arguments)
    by_hand = _by_hand(chosen.page)
    chosen.page.write_text(page(chosen.folder, by_hand), "utf-8")
    return 0


def page(folder: Path, by_hand: str) -> str:
    """Return the page: the part by hand, then every benchmark of the folder."""
    parts = ["# What was measured", BEGIN, by_hand.strip(), END]
    for path in sorted(folder.glob("*.json"), key=_order):
        parts += _benchmark(path)
    return "\n\n".join(part for part in parts if part) + "\n"


def _by_hand(path: Path) -> str:
    text = path.read_text("utf-8") if path.exists() else ""
    _, begin, rest = text.partition(BEGIN)
    kept, end, _ = rest.partition(END)
    if begin and not end:
        raise SystemExit(f"{path}: the mark {END} is missing after {BEGIN}; put it back")
    return kept


def _order(path: Path) -> tuple[int, str]:
    name = path.stem
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _benchmark(path: Path) -> Iterator[str]:
    rows = [from_json(values) for values in json.loads(path.read_text("utf-8"))]
    yield f"## {path.stem}"
    about = path.with_suffix(".about")
    if about.exists():
        told = json.loads(about.read_text("utf-8"))
        note = f" {told['note']}." if told.get("note") else ""
        yield f"`{told['command']}`, {told['date']}, on {told['machine']}.{note}"
    missed = [row for row in rows if row.met is False]
    if missed:
        yield "Missed:\n\n" + "\n".join(f"- {_sentence(row)}" for row in missed)
    single = [row for row in rows if row.row.count(" | ") != 2]
    if single:
        yield _table(
            ["", "value", "against", "ratio", "goal", "met"],
            [_cells(row) for row in single],
        )
    for title, lines in pivots(rows).items():
        columns = list(dict.fromkeys(name for cells in lines.values() for name in cells))
        heads = ["", *(name.replace("\n", ", ") for name in columns)]
        body = [
            [line, *(cell(found.get(name)) for name in columns)] for line, found in lines.items()
        ]
        yield f"### {title}"
        yield _table(heads, body)
    yield from _unmeasured(rows)


def _cells(row: Row) -> list[str]:
    ratio = number(row.ratio)
    if row.low is not None and row.high is not None and row.low != row.high:
        ratio += f" ({number(row.low)}-{number(row.high)})"
    met = "" if row.met is None else "yes" if row.met else "**no**"
    value = "-" if row.value is None else f"{number(row.value)} {row.unit}".strip()
    return [row.row, value, row.against or "", ratio, number(row.goal), met]


def _sentence(row: Row) -> str:
    against = f" against {row.against}" if row.against else ""
    ratio = f": {number(row.ratio)} where {number(row.goal)} is the goal" if row.ratio else ""
    return f"{row.row}{against}{ratio}{f' ({row.why})' if row.why else ''}"


def _unmeasured(rows: Sequence[Row]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.why and row.met is not False:
            parts = row.row.split(" | ")
            reasons.setdefault(row.why, []).append(parts[1] if len(parts) == 3 else row.row)
    if reasons:
        yield "\n".join(
            f"- {', '.join(dict.fromkeys(names))}: {why}." for why, names in reasons.items()
        )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ruler, *lines))


if __name__ == "__main__":
    sys.exit(main())
