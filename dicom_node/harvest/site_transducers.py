"""The site's own probes, on top of the shipped rules: a CSV that names each of them as a whole.

Columns ``transducer`` (a value of Transducer Data (0018,5010), without serial number) and
``geometry``; columns that may be there: ``manufacturer``, a part of Manufacturer (0008,0070) where
the name means another probe at another vendor, and ``probe``, the model's name where ``transducer``
is a code for it. There are no patterns: a site knows its probes, and a pattern would guess.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigError
from dicom_node.harvest.transducer import SiteTransducer, normal_values
from dicom_node.records import Geometry
from dicom_node.store.records import PROBE

COLUMNS = ("transducer", "geometry")
#: What a scanner writes where no probe is plugged in.
NO_PROBE = "UNUSED"


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """One row as it was typed."""

    transducer: str
    geometry: str
    manufacturer: str
    probe: str


def load_site_transducers(path: Path | None) -> tuple[SiteTransducer, ...]:
    """Read the site's probes.

    Parameters
    ----------
    path : Path, optional
        The CSV; None has no rows.

    Returns
    -------
    tuple of SiteTransducer
        Those of one manufacturer first.

    Raises
    ------
    ConfigError
        When the file cannot be read, or a row cannot be used.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path}: harvest.site_transducers cannot be read ({type(exc).__name__}); "
            "it is a CSV in UTF-8"
        ) from None
    rows = _read(lines, str(path))
    return tuple(sorted(rows, key=lambda row: not row.manufacturer))


def _read(lines: Iterable[str], name: str) -> list[SiteTransducer]:
    reader = csv.DictReader(lines)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"{name}:1: no column {missing[0]!r}; the columns are {COLUMNS}")
    found: dict[tuple[str, str], SiteTransducer] = {}
    for row in reader:
        where = f"{name}:{reader.line_num}"
        cells = {key: (row.get(key) or "").strip() for key in _Cells.__annotations__}
        one = _checked(_Cells(**cells), where)
        if found.setdefault((one.transducer, one.manufacturer), one) != one:
            raise ConfigError(f"{where}: stands twice with different words; keep one row")
    return list(found.values())


def _checked(cells: _Cells, where: str) -> SiteTransducer:
    values = list(normal_values(cells.transducer))
    if len(values) != 1 or values == [NO_PROBE]:
        raise ConfigError(
            f"{where}: transducer is not one value; write the probe as Transducer Data names it, "
            "without its serial number"
        )
    if cells.geometry.lower() not in set(Geometry):
        raise ConfigError(
            f"{where}: unknown geometry {cells.geometry!r}; known: {', '.join(Geometry)}"
        )
    if cells.probe and not PROBE.fullmatch(cells.probe.upper()):
        raise ConfigError(
            f"{where}: probe {cells.probe!r} is no model name; it has a letter and a digit, and "
            "24 characters at most"
        )
    return SiteTransducer(
        transducer=values[0],
        manufacturer=cells.manufacturer.upper(),
        geometry=Geometry(cells.geometry.lower()),
        probe=cells.probe.upper() or None,
    )
