"""Read a CSV of the site, whole or not at all.

A row that is read wrongly labels images wrongly and nobody sees it. So a cell too many, a cell too
few, an unknown column and an open quote are faults here, which Python's ``csv`` lets pass.
"""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from dicom_node.errors import ConfigError

#: Columns for the site's own eyes; nothing reads them.
REMARKS = ("why", "note")
CELLS_CURE = "put a cell that holds a comma into quotes"
#: What a program of tables writes where the comma is for decimals.
OTHER_SEPARATORS = ";\t|"


def site_text(path: Path, setting: str) -> str:
    """Return the text of a CSV that a setting names.

    Raises
    ------
    ConfigError
        When it cannot be read.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path}: {setting} cannot be read ({type(exc).__name__}); it is a CSV in UTF-8"
        ) from None


def site_rows(
    text: str,
    name: str,
    *,
    columns: Sequence[str],
    more: Sequence[str] = (),
    cure: str = CELLS_CURE,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row by column, with where it stands; empty lines are no rows.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.
    columns, more : sequence of str
        Columns that must be there, and those that may; of the latter a row has "" where the file
        lacks them.
    cure : str
        What to do about a row that has not as many cells as the header.

    Raises
    ------
    ConfigError
        When the text is no CSV, or its columns are others.
    """
    header, lines = site_lines(text, name, columns=columns, more=more)
    for line, cells in lines:
        if len(cells) != len(header):
            raise ConfigError(f"{name}:{line}: {misfit(cells, header, cure)}")
        yield f"{name}:{line}", dict.fromkeys(more, "") | dict(zip(header, cells, strict=True))


def site_lines(
    text: str, name: str, *, columns: Sequence[str], more: Sequence[str] = ()
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header and the rows, each with the line that it begins in, whatever its length.

    Parameters
    ----------
    text, name, columns, more
        As in `site_rows`.

    Raises
    ------
    ConfigError
        When the columns are others; from the rows, when the text is no CSV.
    """
    lines = _lines(text, name)
    begins, cells = next(lines, (1, []))
    header = [cell.strip() for cell in cells]
    _need_columns(header, f"{name}:{begins}", columns, {*columns, *more, *REMARKS})
    return header, lines


def misfit(cells: Sequence[str], header: Sequence[str], cure: str = CELLS_CURE) -> str:
    """Say what is wrong with a row that has not as many cells as the header."""
    return f"{len(cells)} cells, and the header has {len(header)}; {cure}"


def _lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            raise ConfigError(
                f"{name}:{line}: no row of a CSV ({exc}); close every quote, and keep a cell short"
            ) from None
        if cells is None:
            return
        if cells:
            yield line, cells


def _need_columns(
    header: Sequence[str], where: str, columns: Sequence[str], known: Collection[str]
) -> None:
    if len(header) == 1 and set(header[0]) & set(OTHER_SEPARATORS):
        raise ConfigError(f"{where}: one cell, and no comma; put commas between the cells")
    missing = [column for column in columns if column not in header]
    if missing:
        raise ConfigError(f"{where}: no column {missing[0]!r}; the columns are {tuple(columns)}")
    for place, column in enumerate(header):
        if column not in known:
            raise ConfigError(
                f"{where}: unknown column {column!r}; known: {', '.join(sorted(known))}"
            )
        if column in header[:place]:
            raise ConfigError(f"{where}: column {column!r} stands twice; keep one")
