"""The site's own probes, on top of the shipped rules: a CSV that names each of them as a whole.

Columns ``transducer`` (a value of Transducer Data (0018,5010), without serial number) and
``geometry``; columns that may be there: ``manufacturer``, a part of Manufacturer (0008,0070) where
the name means another probe at another vendor, and ``probe``, the model's name where ``transducer``
is a code for it. There are no patterns: a site knows its probes, and a pattern would guess.
"""

from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigError
from dicom_node.harvest.site_csv import site_rows, site_text
from dicom_node.harvest.transducer import SiteTransducer, normal_values
from dicom_node.records import Geometry
from dicom_node.store.records import PROBE

COLUMNS = ("transducer", "geometry")
MORE_COLUMNS = ("manufacturer", "probe")
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
    rows = _read(site_text(path, "harvest.site_transducers"), str(path))
    return tuple(sorted(rows, key=lambda row: not row.manufacturer))


def _read(text: str, name: str) -> list[SiteTransducer]:
    found: dict[tuple[str, str], SiteTransducer] = {}
    for where, row in site_rows(text, name, columns=COLUMNS, more=MORE_COLUMNS):
        cells = {key: row[key].strip() for key in _Cells.__annotations__}
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
