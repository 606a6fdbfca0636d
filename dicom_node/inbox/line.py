"""The waiting line: which received file is registered next."""

import time
from collections.abc import Callable
from pathlib import Path

from dicom_node.inbox.names import file_ids


class Line:
    """The files of a folder, for the one caller that takes them out.

    Parameters
    ----------
    folder : Path
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        #: what `take` has still to return, the next one last
        self._rest: list[str] = []
        #: files that do not stand in the line, and until when
        self._put_off: dict[str, float] = {}

    def take(self, limit: int) -> list[str]:
        """Return the files that come next, oldest first.

        The folder is listed again only once every file that it held was returned: to list a long
        line for each piece of it costs the square of its length. Nothing is returned only when
        nothing stands in the line.
        """
        if not self._rest:
            self._rest = self._standing()[::-1]
        self._rest, piece = self._rest[:-limit], self._rest[-limit:]
        return piece[::-1]

    def first(self) -> str | None:
        """Return the oldest file that stands in the line, None when there is none."""
        return next(iter(self._standing()), None)

    def put_off(self, file_id: str, seconds: float) -> None:
        """Let a file with which nothing can be done now stand in the line again only later."""
        self._put_off[file_id] = self._clock() + seconds

    def _standing(self) -> list[str]:
        now = self._clock()
        self._put_off = {file_id: end for file_id, end in self._put_off.items() if end > now}
        return [file_id for file_id in file_ids(self._folder) if file_id not in self._put_off]
