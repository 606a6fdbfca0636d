"""What ``dicom-node check`` says of a store's catalogue that is, or is to be, on a server."""

from pathlib import Path

from dicom_node.cli.listening import Finding
from dicom_node.config import Config
from dicom_node.errors import NodeError, StoreError
from dicom_node.node.layout import Layout
from dicom_node.store import is_store, places, server


def catalogue(config: Config) -> list[Finding]:
    """See whether folder and configuration agree, and whether the server answers."""
    folder, wanted = Layout(config.node.data).store, config.harvest.catalogue
    try:
        place = places.read(folder)
        if place is None and wanted is None:
            return []
        fault = _differ(folder, place, wanted)
        found = "" if fault else _answer(place or places.new(wanted or ""), is_new=place is None)
    except NodeError as exc:
        fault, found = str(exc), ""
    return [("catalogue", fault, found)]


def _answer(place: places.Place, *, is_new: bool) -> str:
    """Return what a server says.

    Raises
    ------
    NodeError
        When it cannot be used, or its catalogue cannot.
    """
    seen = server.look(place)
    if fault := server.newer(seen.layout or 0):
        raise StoreError(fault)
    if seen.layout is None and not is_new:
        raise StoreError(
            f"no schema {place.schema} on the server: restore its dump, or a backup of the node"
        )
    made = "the first harvest makes its schema" if is_new else "its schema is there"
    waits = "" if seen.is_durable else "; warning: fsync is off there: a power cut loses frames"
    return f"the server answers, version {seen.version}; {made}{waits}"


def _differ(folder: Path, place: places.Place | None, wanted: str | None) -> str:
    """Say that the configuration names another place than the store has, "" when it does not."""
    has = None if place is None else place.url
    if not is_store(folder) or has == wanted:
        return ""
    return (
        f"harvest.catalogue: the store has it in {has or places.FILE}, which counts: stop the node "
        f"and give 'dicom-node store move --to {wanted or 'file'}', or set it to {has or 'null'}"
    )
