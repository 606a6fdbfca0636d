"""The store as the other parts see it."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.read_only import need_writable
from dicom_node.records import Box, Task
from dicom_node.store import catalogue, evidence, files, locks, places, queries
from dicom_node.store.catalogue import instances
from dicom_node.store.pictures import Pictures
from dicom_node.store.readers import ReaderBook
from dicom_node.store.records import (
    ImageLabels,
    LabelCount,
    Listing,
    NewFrame,
    Sighting,
    StoredFrame,
    StoreInfo,
)
from dicom_node.store.selection import Selection
from dicom_node.store.together import Together, together
from dicom_node.store.volumes import VolumeBook


class WeakLabelStore:
    """De-identified frames with what is known of them.

    Parameters
    ----------
    folder : Path
        Made when it is not there. Several processes may read and write at once. One that this
        account may only read is read; what writes is refused.
    new_on : str, optional
        ``harvest.catalogue``: the server of the catalogue, where the store begins here. One that is
        there knows where its catalogue is.
    """

    def __init__(self, folder: Path, *, new_on: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._frames = folder / "frames"
        self._masks = folder / "masks"
        self._pictures = Pictures(self._frames)
        self._engine = catalogue.open_catalogue(folder, new_on=new_on)
        self._reads = for_reading(self._engine)
        #: what each source in the headers says, and how to give words other labels
        self.evidence = evidence.EvidenceBook(self._engine)
        #: who said what of which frame
        self.readers = ReaderBook(self._engine, folder)
        #: of CT and MR series
        self.volumes = VolumeBook(self._engine, folder)

    def close(self) -> None:
        """Close the catalogue."""
        self._pictures.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def need_writable(self) -> None:
        """See that the store is not one that this account may only read.

        Raises
        ------
        DatabaseDownError
            When it is.
        """
        need_writable(self._engine)

    def holding_off_erasure(self) -> AbstractContextManager[None]:
        """Let no erasure begin, and wait for one that runs; not to be nested."""
        return locks.harvesting(self._folder)

    def add_frame(self, frame: NewFrame) -> str:
        """Store a frame and return its id; the same frame again changes nothing.

        Returns
        -------
        str
            The id of these pixels. Pixels that are already there, from whichever instance, are not
            stored twice and keep their first patient.

        Raises
        ------
        StoreError
            When the instance had another size or crop before, or other pixels under this number.
        TemporaryError
            When the disk does not take it.
        """
        self.put_frame(frame)
        return frame.frame_id

    def put_frame(self, frame: NewFrame) -> bool:
        """Store a frame as `add_frame` does, and return whether its picture had to be written."""
        with self.together() as one:
            return one.put_frame(frame)

    def together(self) -> AbstractContextManager[Together]:
        """Store frames together: they wait for the disk once, and are durable at the end of it.

        May be nested in `holding_off_erasure`. After an error, what was put before the last `keep`
        is durable, and of what was put later no row is there.
        """
        self.need_writable()
        return together(self._folder, self._engine, self._pictures)

    def has_frame(self, frame_id: str) -> bool:
        """Whether these pixels are in the store."""
        with self._reads.begin() as connection:
            return catalogue.has_frame(connection, frame_id)

    def clip(self, instance: str) -> list[Sighting]:
        """Return what is known of an instance's pseudonym, frame by frame in time; may be empty."""
        with self._reads.begin() as connection:
            return catalogue.clip(connection, instance)

    def lost(self, clip: Iterable[Sighting]) -> frozenset[str]:
        """Return the ids of those frames of a clip whose picture is not there any more."""
        ids = {one.frame_id for one in clip}
        return frozenset(i for i in ids if not files.path_of(self._frames, i).exists())

    def frames(
        self, *, labelled: Task | None = None, split: str | None = None
    ) -> list[StoredFrame]:
        """Return the frames that fit, as `where` chooses and orders them."""
        return self.where(split=split, labelled=labelled).frames()

    def where(
        self,
        *,
        group: str | Sequence[str] | None = None,
        geometry: str | Sequence[str] | None = None,
        split: str | None = None,
        labelled: Task | None = None,
        burned_in_annotation: bool | None = None,
    ) -> Selection:
        """Choose frames by their labels; parameters are those of `Selection.where`."""
        every = Selection(engine=self._engine, folder=self._frames)
        return every.where(
            group=group,
            geometry=geometry,
            split=split,
            labelled=labelled,
            burned_in_annotation=burned_in_annotation,
        )

    def label_counts(self) -> list[LabelCount]:
        """Count the frames by their weak labels."""
        with self._reads.begin() as connection:
            return queries.label_counts(connection)

    def labels_of_study(self, study: str) -> list[ImageLabels]:
        """Count the images of a study's pseudonym by their weak labels."""
        with self._reads.begin() as connection:
            return queries.labels_of_study(connection, study)

    def listing(self) -> Listing:
        """Return all frames with the version that they make up, as of one moment."""
        # one transaction that only reads sees one state, and no harvest waits for it
        with self._reads.begin() as connection:
            return Listing(
                version=queries.version(connection),
                frames=tuple(queries.stored_frames(connection)),
            )

    def pixels(self, frame_id: str) -> NDArray[np.uint8]:
        """Return a frame as uint8, (H, W); works in forked workers, no database is asked.

        Raises
        ------
        StoreError
            When there is no such frame, or its file is damaged.
        """
        return files.read(files.path_of(self._frames, frame_id))

    def mask(self, frame_id: str) -> NDArray[np.uint8]:
        """Return a reader's label map as uint8, (H, W), 0 = background; no database is asked.

        Raises
        ------
        StoreError
            When the frame has none, or its file is damaged.
        """
        return files.read(files.path_of(self._masks, frame_id))

    def crop_of(self, instance: str) -> Box:
        """Return which part of an instance's image its frames are.

        Raises
        ------
        StoreError
            When the pseudonym is not known.
        """
        row = self._instance(instance)
        return Box(left=row.left, top=row.top, right=row.right, bottom=row.bottom)

    def source_size(self, instance: str) -> tuple[int, int]:
        """Return rows and columns of an instance's image.

        Raises
        ------
        StoreError
            When the pseudonym is not known.
        """
        row = self._instance(instance)
        return row.rows, row.columns

    def _instance(self, instance: str) -> sa.Row[tuple[object, ...]]:
        with self._reads.begin() as connection:
            row = connection.execute(
                sa.select(instances).where(instances.c.instance == instance)
            ).one_or_none()
        if row is None:
            raise StoreError("the instance is not in the store; harvest it first")
        return row

    def version(self) -> str:
        """Return a name for the content: equal content has equal names, wherever it was made."""
        with self._reads.begin() as connection:
            return queries.version(connection)

    def info(self) -> StoreInfo:
        """Count what is in the store."""
        with self._reads.begin() as connection:
            return queries.info(connection)


def open_store(folder: Path | str) -> WeakLabelStore:
    """Open a store that is there; close it, or use it as a context manager.

    One on a read-only share, or of another account, is opened for reading alone.

    Parameters
    ----------
    folder : Path or str
        As ``node-data/store``, or a copy of it.

    Raises
    ------
    StoreError
        When there is none, or this account may not look into it.
    PermanentError
        When this account may not read it, or another version of the program wrote it.
    """
    place = Path(folder)
    if not places.is_store(place):
        raise StoreError(
            f"{place}: no weak-label store; name the folder that the node harvests into"
        )
    return WeakLabelStore(place)
