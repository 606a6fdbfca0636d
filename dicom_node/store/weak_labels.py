"""The store as the other parts see it."""

from pathlib import Path
from typing import Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.records import Box, Task
from dicom_node.store import catalogue, files, queries
from dicom_node.store.catalogue import frames, instances, sightings
from dicom_node.store.label_sets import DEFAULT_LABEL_SET, class_set, label_set
from dicom_node.store.readers import ReaderBook
from dicom_node.store.records import BEST_QUALITY, Listing, NewFrame, StoredFrame, StoreInfo


class WeakLabelStore:
    """De-identified frames with what is known of them.

    Parameters
    ----------
    folder : Path
        Made when it is not there. Several processes may read and write at once.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._frames = folder / "frames"
        self._masks = folder / "masks"
        self._engine = catalogue.open_catalogue(folder / "catalogue.db")
        #: who said what of which frame
        self.readers = ReaderBook(self._engine, self._masks)

    def close(self) -> None:
        """Close the catalogue."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        frame_id = files.digest(frame.pixels)
        if self._is_sighted(frame, frame_id):
            return frame_id
        # the picture is durable before a row names it: a crash leaves at worst a file too many
        size_bytes = files.write(files.path_of(self._frames, frame_id), frame.pixels)
        with self._engine.begin() as connection:
            # another process may have been faster
            if catalogue.sighting(connection, frame.instance, frame.frame_number) is None:
                catalogue.put(connection, frame, frame_id, size_bytes)
        return frame_id

    def _is_sighted(self, frame: NewFrame, frame_id: str) -> bool:
        with self._engine.begin() as connection:
            known = catalogue.sighting(connection, frame.instance, frame.frame_number)
            fits = catalogue.fits(connection, frame)
        if not fits or known not in (None, frame_id):
            raise StoreError(
                f"instance {frame.instance}, frame {frame.frame_number}: stored with other pixels; "
                "two objects share one SOP Instance UID, correct the source"
            )
        return known is not None

    def has_frame(self, frame_id: str) -> bool:
        """Whether these pixels are in the store."""
        with self._engine.begin() as connection:
            found = connection.scalar(
                sa.select(frames.c.frame_id).where(frames.c.frame_id == frame_id)
            )
        return found is not None

    def frame_numbers(self, instance: str) -> frozenset[int]:
        """Return the 1-based numbers of the frames that are known of an instance's pseudonym."""
        query = sa.select(sightings.c.frame_number).where(sightings.c.instance == instance)
        with self._engine.begin() as connection:
            return frozenset(connection.scalars(query))

    def frames(
        self, *, labelled: Task | None = None, split: str | None = None
    ) -> list[StoredFrame]:
        """Return the frames in an order that does not depend on when they came.

        Parameters
        ----------
        labelled : Task, optional
            Only those with a reader's label for this task.
        split : str, optional
            Only those of ``train``, ``validation`` or ``test``.

        Raises
        ------
        StoreError
            When there is no such split.
        """
        with self._engine.begin() as connection:
            return queries.stored_frames(connection, labelled=labelled, split=split)

    def listing(self) -> Listing:
        """Return all frames with the version that they make up, as of one moment."""
        # one transaction that only reads sees one state, and no harvest waits for it
        with for_reading(self._engine).begin() as connection:
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
        with self._engine.begin() as connection:
            row = connection.execute(
                sa.select(instances).where(instances.c.instance == instance)
            ).one_or_none()
        if row is None:
            raise StoreError("the instance is not in the store; harvest it first")
        return row

    def add_label(
        self,
        instance: str,
        frame_number: int,
        *,
        quality: int | None = None,
        mask: NDArray[np.uint8] | None = None,
        labels: str | None = None,
        class_name: str | None = None,
    ) -> None:
        """Attach what a reader said of a frame; what is given replaces what was there.

        Parameters
        ----------
        instance : str
            Pseudonym.
        frame_number : int
            1-based.
        quality : int, optional
            0 (not usable) to 4 (best view).
        mask : ndarray of uint8, shape (H, W), optional
            Label map of the stored crop, 0 = background.
        labels : str, optional
            Which label set the mask's values are of; ``liver-kidney`` when not named.
        class_name : str, optional
            What the frame is, as ``set/class``: ``breast/benign``.

        Raises
        ------
        StoreError
            When the frame is not stored, or a label does not fit it.
        TemporaryError
            When the disk does not take it.
        """
        values = _checked(quality, class_name)
        with self._engine.begin() as connection:
            frame_id = catalogue.sighting(connection, instance, frame_number)
        if frame_id is None:
            raise StoreError(
                f"frame {frame_number} of the instance is not stored; harvest it first"
            )
        if mask is not None:
            values |= self._put_mask(frame_id, mask, labels or DEFAULT_LABEL_SET)
        elif labels is not None:
            raise StoreError("a label set is of a mask, and there is none; name the mask too")
        if values:
            with self._engine.begin() as connection:
                connection.execute(
                    frames.update().where(frames.c.frame_id == frame_id).values(values)
                )

    def _put_mask(self, frame_id: str, mask: NDArray[np.uint8], labels: str) -> dict[str, object]:
        shape = self.pixels(frame_id).shape
        if mask.dtype != np.uint8 or mask.shape != shape:
            raise StoreError(f"the mask is {mask.dtype} {mask.shape}, the frame uint8 {shape}")
        names = label_set(labels).names
        if mask.max() > len(names):
            known = ", ".join(f"{value} {name}" for value, name in enumerate(names, start=1))
            raise StoreError(
                f"the mask holds the value {mask.max()}; the label set {labels} has 0 background, "
                f"{known}: write those, or name another label set"
            )
        size_bytes = files.write(files.path_of(self._masks, frame_id), mask)
        return {
            "mask_digest": files.digest(mask),
            "mask_bytes": size_bytes,
            "label_set": labels,
        }

    def version(self) -> str:
        """Return a name for the content: equal content has equal names, wherever it was made."""
        with self._engine.begin() as connection:
            return queries.version(connection)

    def info(self) -> StoreInfo:
        """Count what is in the store."""
        with self._engine.begin() as connection:
            return queries.info(connection)


def _checked(quality: int | None, class_name: str | None) -> dict[str, object]:
    """Return the columns of a quality and a class."""
    values: dict[str, object] = {}
    if quality is not None:
        if not 0 <= quality <= BEST_QUALITY:
            raise StoreError(f"quality {quality} is not 0 to {BEST_QUALITY}")
        values["quality"] = quality
    if class_name is not None:
        known, _, name = class_name.partition("/")
        names = class_set(known).names
        if name not in names:
            raise StoreError(f"no class of this name in {known}; it has {', '.join(names)}")
        values |= {"class_set": known, "class_name": name}
    return values
