"""Frames that go into the store together: they wait for the disk once.

Pictures are written side by side as they come. Then their names are made durable, then all rows are
committed at once: a crash leaves at worst files too many, and no row without its picture.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import StoreError, TemporaryError
from dicom_node.store import catalogue, evidence, locks
from dicom_node.store.pictures import Pictures, sizes
from dicom_node.store.records import NewFrame, Place

#: What waits for its rows at most: they are committed then, whoever else comes.
MOST_BYTES: Final = 4 * 2**20
MOST_ROWS: Final = 32


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What is written of a frame when its picture is durable."""

    frame_id: str
    #: given the size of the picture in bytes
    write: Callable[[sa.Connection, int], None]


class Together:
    """Frames on their way into a store, for one caller; as `WeakLabelStore.together`.

    What was put counts here at once, and in the store when it is settled: `settle` does that, the
    end of `together`, and a frame with which too much would wait.
    """

    def __init__(self, engine: sa.Engine, pictures: Pictures) -> None:
        self._engine, self._pictures = engine, pictures
        self._reads = for_reading(engine)
        #: asked for each frame; what others commit meanwhile is seen after `settle`
        self._reading: sa.Connection | None = None
        self._rows: list[_Row] = []
        self._coming: dict[str, Future[int]] = {}
        self._bytes = 0
        self._places: dict[str, Place] = {}
        self._sightings: dict[tuple[str, int], str] = {}
        self._settled = 0
        self._kept: list[int] = []

    @property
    def durable(self) -> int:
        """How many of the calls of `keep` are about what is durable."""
        return sum(rows <= self._settled for rows in self._kept)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that it should be settled."""
        return self._bytes >= MOST_BYTES or len(self._rows) >= MOST_ROWS

    def keep(self) -> None:
        """Say that what was put until now stays, even if what comes next ends in an error."""
        self._kept.append(self._settled + len(self._rows))

    def put_frame(self, frame: NewFrame) -> bool:
        """Store a frame, and return whether its picture had to be written.

        The pixels are new then, or the picture of a frame that is known was lost.

        Raises
        ------
        StoreError
            When the instance had another size or crop before, or other pixels under this number.
        TemporaryError
            When the disk does not take it.
        """
        if self.is_full:
            self.settle()
        frame_id, key = frame.frame_id, (frame.instance, frame.frame_number)
        if (
            self._places.get(frame.instance, frame.place) != frame.place
            or self._sightings.get(key, frame_id) != frame_id
        ):
            raise catalogue.collision(frame)
        is_there, is_sighted = catalogue.known(self._read(), frame, frame_id)
        keeps = frame_id in self._coming or (is_there and self._pictures.is_there(frame_id))
        if keeps and (is_sighted or key in self._sightings):
            return False
        if not keeps:
            self._coming[frame_id] = self._pictures.begin(frame_id, frame.pixels)
        self._note(frame, is_lost=is_there and not keeps)
        return not keeps

    def _note(self, frame: NewFrame, *, is_lost: bool) -> None:
        frame_id = frame.frame_id

        def write(connection: sa.Connection, size_bytes: int) -> None:
            if is_lost:
                catalogue.resize(connection, frame_id, size_bytes)
            # another process may have been faster
            if catalogue.sighting(connection, frame.instance, frame.frame_number) is None:
                catalogue.put(connection, frame, frame_id, size_bytes)
                evidence.put(connection, frame.instance, frame.evidence)

        self._rows.append(_Row(frame_id=frame_id, write=write))
        self._bytes += frame.pixels.nbytes
        self._places[frame.instance] = frame.place
        self._sightings[frame.instance, frame.frame_number] = frame_id

    def add_repeat(self, instance: str, frame_number: int, frame_id: str) -> None:
        """Note that a clip shows hardly anything new: a frame that it has shown before.

        Raises
        ------
        StoreError
            When there is no such instance or no such frame.
        """
        shown = {found for (of, _), found in self._sightings.items() if of == instance}
        if frame_id not in shown:
            shown = {one.frame_id for one in catalogue.clip(self._read(), instance)}
        if frame_id not in shown:
            raise StoreError("the clip has not shown this frame; harvest it first")

        def write(connection: sa.Connection, _: int) -> None:
            catalogue.put_sighting(connection, instance, frame_number, frame_id)

        self._rows.append(_Row(frame_id=frame_id, write=write))
        self._sightings.setdefault((instance, frame_number), frame_id)

    def has_frame(self, frame_id: str) -> bool:
        """Whether these pixels are in the store, or on their way."""
        return frame_id in self._coming or catalogue.has_frame(self._read(), frame_id)

    def _read(self) -> sa.Connection:
        if self._reading is None:
            self._reading = self._reads.connect()
        return self._reading

    def settle(self) -> None:
        """Make durable what was put.

        Raises
        ------
        TemporaryError
            When the disk does not take a picture. What was put before it is durable.
        """
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        rows, coming = self._rows, self._coming
        self._rows, self._coming, self._bytes = [], {}, 0
        self._places, self._sightings = {}, {}
        written, fault = sizes(coming)
        # as if they were stored one by one: nothing that comes after what failed
        failed = coming.keys() - written
        rows = rows[: next((n for n, row in enumerate(rows) if row.frame_id in failed), None)]
        if written:
            self._pictures.settle(written)
        self._commit(rows, written)
        self._settled += len(rows)
        if fault is not None:
            raise fault

    def _commit(self, rows: list[_Row], written: dict[str, int]) -> None:
        if rows:
            with self._engine.begin() as connection:
                for row in rows:
                    row.write(connection, written.get(row.frame_id, 0))

    def forget(self) -> None:
        """Give up what was put since the last `keep`; its pictures may stay, and no row does."""
        kept = self._kept[-1] if self._kept else 0
        del self._rows[max(0, kept - self._settled) :]


@contextmanager
def together(folder: Path, engine: sa.Engine, pictures: Pictures) -> Iterator[Together]:
    """Store frames together; see `WeakLabelStore.together`."""
    with locks.adding(folder):
        one = Together(engine, pictures)
        is_whole = False
        try:
            yield one
            is_whole = True
        finally:
            if not is_whole:
                one.forget()
                # what is wrong already is what the caller should hear of
                with suppress(TemporaryError):
                    one.settle()
        one.settle()
