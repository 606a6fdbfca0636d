"""Frames of a store that were chosen by their labels: count them, list them, look at them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Geometry, Task
from dicom_node.store import files, queries
from dicom_node.store.catalogue import frames, instances, to_bits
from dicom_node.store.records import StoredFrame
from dicom_node.store.split import SPLITS

_Made = TypeVar("_Made")
Pixels = NDArray[np.uint8]
#: Frames whose facts are read at a time: no reader holds the catalogue while it looks at pixels.
PAGE = 500


class Prepared(Sequence[_Made], Generic[_Made]):
    """What a function makes of each frame, by place; a data set for torch's ``DataLoader``.

    Reads pictures alone and asks no database, so that workers may be forked or spawned.
    """

    def __init__(
        self,
        folder: Path,
        chosen: Sequence[StoredFrame],
        make: Callable[[Pixels, StoredFrame], _Made],
    ) -> None:
        self._folder = folder
        self._make = make
        #: in the order of the places
        self.frames = tuple(chosen)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, place: int) -> _Made:  # type: ignore[override]
        frame = self.frames[place]
        return self._make(files.read(files.path_of(self._folder, frame.frame_id)), frame)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Frames that fit; made by `WeakLabelStore.where`. Asks the store when it is looked at."""

    engine: sa.Engine = field(repr=False)
    #: of the pictures
    folder: Path
    conditions: tuple[sa.ColumnElement[bool], ...] = field(default=(), repr=False)

    def where(
        self,
        *,
        group: str | Sequence[str] | None = None,
        geometry: str | Sequence[str] | None = None,
        split: str | None = None,
        labelled: Task | None = None,
        burned_in_annotation: bool | None = None,
    ) -> "Selection":
        """Return those of the frames that fit every word.

        Parameters
        ----------
        group : str or sequence of str, optional
            Study groups: frames of one of them.
        geometry : str or sequence of str, optional
            One of these geometries of the probe.
        split : str, optional
            ``train``, ``validation`` or ``test``: no patient is in two of them, and a patient stays
            where he is when the store grows.
        labelled : Task, optional
            With a reader's label for this task.
        burned_in_annotation : bool, optional
            False: only where the scanner said that no text is burned in; True: all others.

        Raises
        ------
        StoreError
            When there is no such group, geometry or split.
        """
        added: list[sa.ColumnElement[bool]] = []
        if group is not None:
            bits = to_bits(_known("group", group, GROUPS))
            added.append(instances.c.groups.op("&")(bits) != 0)
        if geometry is not None:
            added.append(instances.c.geometry.in_(_known("geometry", geometry, tuple(Geometry))))
        if split is not None:
            added.append(instances.c.split.in_(_known("split", split, tuple(SPLITS))))
        if labelled is not None:
            added.append(queries.LABEL_OF[labelled].is_not(None))
        if burned_in_annotation is not None:
            added.append(instances.c.burned_in_annotation.is_(burned_in_annotation))
        return replace(self, conditions=(*self.conditions, *added))

    def __len__(self) -> int:
        query = queries.joined(sa.func.count()).where(*self.conditions)
        with for_reading(self.engine).begin() as connection:
            return int(connection.scalar(query) or 0)

    def __iter__(self) -> Iterator[tuple[Pixels, StoredFrame]]:
        """Yield pixels, uint8 (H, W) in the scanner's resolution, with what is known of them."""
        ids = self.frame_ids()
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            with for_reading(self.engine).begin() as connection:
                found = queries.stored_frames(connection, frames.c.frame_id.in_(page))
            for frame in found:
                yield files.read(files.path_of(self.folder, frame.frame_id)), frame

    def frame_ids(self) -> list[str]:
        """Return the frames' ids in an order that does not depend on when they came."""
        query = queries.joined(frames.c.frame_id).where(*self.conditions).order_by(*queries.ORDER)
        with for_reading(self.engine).begin() as connection:
            return list(connection.scalars(query))

    def frames(self) -> list[StoredFrame]:
        """Return what is known of the frames, in the same order."""
        with for_reading(self.engine).begin() as connection:
            return queries.stored_frames(connection, *self.conditions)

    def prepared(self, make: Callable[[Pixels, StoredFrame], _Made]) -> Prepared[_Made]:
        """Return the frames as a sequence, each as a function makes it.

        Parameters
        ----------
        make : callable
            Gets pixels and frame; what it returns is what an index gives.
        """
        return Prepared(self.folder, self.frames(), make)


def _known(what: str, asked: str | Sequence[str], known: Sequence[str]) -> list[str]:
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in known:
            raise StoreError(f"no {what} {name!r}; there are {', '.join(known)}")
    return names
