"""Exports of packs as shards (`training.pack.sharding`), as far as erasing needs to know them.

Below one address lie, for each export, the objects of ``VERSION-HEIGHTxWIDTH/``: a mark that it was
begun, its rows, its shards, and last what it is. ``newest-HEIGHTxWIDTH.json`` says which is meant.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicom_node.errors import NodeError
from dicom_node.store.export_places import Place, place
from dicom_node.store.packs import FAULTS

#: In the order in which they are written; shards stand before the last.
BEGUN, ROWS, INDEX, ABOUT = "begun.json", "rows.npz", "index.npz", "export.json"
SHARD: Final = "shard-{:06d}.tar"
NEWEST: Final = "newest-{}.json"
#: A share that is not mounted looks like a folder that was never made.
ABSENT: Final = "no such folder; mount it, or name it no more, in harvest.exports or with --exports"
NAME: Final = re.compile(r"[0-9a-f]{16}-\d{2,5}x\d{2,5}")
#: An object of an export, and the name of the export; a part is what a dead writer left.
_OBJECT: Final = re.compile(
    rf"({NAME.pattern})/(begun\.json|rows\.npz|index\.npz|export\.json|shard-\d{{6}}\.tar)"
    r"(\.[0-9a-f]{32}\.part)?"
)


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What an erasure found of exports."""

    deleted: int
    #: what is to be done for each address that was not cleared
    faults: tuple[str, ...]


def names(keys: Iterable[str]) -> set[str]:
    """Return the exports that objects are of, unfinished ones among them."""
    return {found[1] for key in keys if (found := _OBJECT.fullmatch(key))}


def delete_exports(addresses: Sequence[str], frame_ids: Set[str]) -> Cleared:
    """Delete the exports that hold one of these frames, and all that are unfinished or damaged.

    Every version of their objects goes. Other objects below an address are left alone.

    Parameters
    ----------
    addresses : sequence of str
        Folders, or ``s3://BUCKET/PREFIX``.
    frame_ids : set of str
        That have left the store.

    Returns
    -------
    Cleared
        An address that cannot be reached, or is not there, is a fault: its exports may hold the
        frames still.
    """
    deleted, faults = 0, []
    for address in addresses:
        try:
            where = place(address)
            if where.is_there:
                deleted += _cleared(where, frame_ids)
            else:
                faults.append(f"{address}: {ABSENT}")
        except NodeError as exc:
            faults.append(str(exc))
        except OSError as exc:
            faults.append(f"{address}: {exc.strerror}")
    return Cleared(deleted=deleted, faults=tuple(faults))


def _cleared(where: Place, frame_ids: Set[str]) -> int:
    deleted = 0
    # what is written while this looks is found by a second look; who writes finds his mark gone
    for _ in range(2):
        for name in list(_to_delete(where, frame_ids)):
            where.delete(f"{name}/")
            deleted += 1
    return deleted


def _to_delete(where: Place, frame_ids: Set[str]) -> Iterator[str]:
    current = names(where.keys())
    for name in sorted(current | names(where.old_keys())):
        # of what was deleted, a bucket may keep old versions
        is_whole = name in current and where.read(f"{name}/{ABOUT}") is not None
        if not is_whole or _holds(where.read(f"{name}/{ROWS}"), frame_ids):
            yield name


def _holds(rows: bytes | None, frame_ids: Set[str]) -> bool:
    """Whether the rows of an export name one of the frames; those that cannot be read might."""
    if rows is None:
        return True
    try:
        with np.load(io.BytesIO(rows), allow_pickle=False) as columns:
            return not frame_ids.isdisjoint(columns["frame_id"].tolist())
    except FAULTS:
        return True
