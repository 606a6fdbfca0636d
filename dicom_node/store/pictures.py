"""Pictures on their way to the disk: several at once, so that they wait for it together."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import TemporaryError
from dicom_node.store import files

#: Syncs that run side by side share the disk's work; more of them gain nothing.
_THREADS = 4


class Pictures:
    """The folder of a store's pictures, for one caller at a time.

    Parameters
    ----------
    folder : Path
        Its subfolders are made as they are needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: subfolders whose own names are durable: made once and never removed
        self._durable: set[Path] = set()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def begin(self, frame_id: str, pixels: NDArray[np.uint8]) -> Future[int]:
        """Begin to write a picture, and return what will be its size in bytes.

        The size comes, or a TemporaryError, once its content is durable; its name is then not yet.
        """
        return self._pool.submit(files.put, files.path_of(self.folder, frame_id), pixels)

    def settle(self, frame_ids: Iterable[str]) -> None:
        """Make the names of pictures durable that were written.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        subfolders = {files.path_of(self.folder, frame_id).parent for frame_id in frame_ids}
        above = {self.folder} if subfolders - self._durable else set()
        try:
            for _ in self._pool.map(files.sync, [*subfolders, *above]):
                pass
        except OSError as exc:
            raise files.not_written(exc) from None
        self._durable |= subfolders

    def is_there(self, frame_id: str) -> bool:
        """Whether the picture of a frame can be read."""
        return files.path_of(self.folder, frame_id).exists()


def sizes(coming: dict[str, Future[int]]) -> tuple[dict[str, int], TemporaryError | None]:
    """Wait for pictures; return the sizes of those that were written, and why another was not."""
    written: dict[str, int] = {}
    fault: TemporaryError | None = None
    for frame_id, size in coming.items():
        try:
            written[frame_id] = size.result()
        except TemporaryError as exc:
            fault = fault or exc
    return written, fault
