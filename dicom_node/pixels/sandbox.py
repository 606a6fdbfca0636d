"""Decode pixels in a process of its own, so that a stranger's bytes can only take that one down.

The parent keeps one decoder process (`dicom_node.pixels.worker`) and talks to it through a socket
pair: one JSON request a file, then one JSON line and one block of bytes a frame. Nothing is
pickled, and hardly more than one frame waits in between: the child stops writing until it is
fetched.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import PixelError, TemporaryError
from dicom_node.helper_process import (
    FAREWELL_S,
    HelperGoneError,
    HelperProcess,
    HelperSilentError,
)

#: Each thread of a numeric library costs memory that the limit counts.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
#: A file, and frames of it.
Wanted = tuple[Path, Sequence[int]]
_Request = dict[str, object]


class PixelSandbox:
    """A decoder process with limits; use it as a context manager.

    For one caller at a time: a second thread, or a second open iterator of `frames`, waits.

    Parameters
    ----------
    memory_mib : int
        The most data that the process may hold. Enforced by the kernel on Linux; macOS keeps no
        such limit, there only the checks before decoding hold.
    timeout_s : float
        The longest wait for one frame.
    """

    def __init__(self, memory_mib: int, timeout_s: float) -> None:
        self._memory_mib = memory_mib
        self._timeout_s = timeout_s
        self._child: _Child | None = None
        #: two callers at once would be given each other's pictures
        self._turn = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def another(self) -> "PixelSandbox":
        """Return one with the same limits, for another caller."""
        return PixelSandbox(memory_mib=self._memory_mib, timeout_s=self._timeout_s)

    @property
    def pid(self) -> int | None:
        """Process id of the decoder, None while there is none."""
        return None if self._child is None else self._child.process.pid

    def close(self) -> None:
        """End the decoder process."""
        child, self._child = self._child, None
        if child is not None:
            child.process.stop(FAREWELL_S)

    def frames(
        self, path: Path, numbers: Sequence[int], *, then: Wanted | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode frames of a file, streamed one by one.

        Parameters
        ----------
        path : Path
            A DICOM file with File Meta Information.
        numbers : sequence of int
            1-based frame numbers, ascending, each once.
        then : tuple of Path and sequence of int, optional
            What is asked for next: the process goes on with it while these frames are looked at.
            Something else may be asked for all the same; that costs a fresh process.

        Yields
        ------
        int
            The frame number.
        ndarray of uint8, shape (R, C)
            Its grey picture.

        Raises
        ------
        PixelError
            When the pixels cannot be decoded, or the process died, ran out of memory or time over
            them. The next file gets a fresh process.
        """
        yield from self._decoded(path, numbers, np.uint8, then)

    def stored_values(
        self, path: Path, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Decode frames as `frames` does, to the values that are stored: int32, (R, C)."""
        yield from self._decoded(path, numbers, np.int32)

    def _decoded(
        self, path: Path, numbers: Sequence[int], dtype: type[Any], then: Wanted | None = None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        if not self._turn.acquire(timeout=self._timeout_s):
            raise TemporaryError("the decoder is busy with another image; it is tried again")
        finished = False
        asked, *ahead = (
            _request(*one, stored=dtype is np.int32) for one in ((path, numbers), then) if one
        )
        try:
            child = self._running(asked)
            child.ask(asked, self._timeout_s)
            for request in ahead:
                child.ask_ahead(request, self._timeout_s)
            while (reply := child.reply(self._timeout_s)).get("frame") is not None:
                yield int(reply["frame"]), child.picture(reply, self._timeout_s, dtype)
            finished = not reply.get("fatal")
            if "error" in reply:
                raise PixelError(str(reply["error"]))
        finally:
            # in the middle of something, or no longer to be trusted
            if not finished and self._child is not None:
                stopped, self._child = self._child, None
                stopped.process.stop()
            self._turn.release()

    def _running(self, asked: _Request) -> "_Child":
        child = self._child
        if child is not None and child.ahead not in (None, asked):
            # it works on what nobody wants
            child.process.stop()
            child = self._child = None
        if child is None or not child.process.is_running:
            self.close()
            child = self._child = _Child(self._memory_mib)
        return child


class _Child:
    """A running decoder process."""

    def __init__(self, memory_mib: int) -> None:
        self.process = HelperProcess(
            "dicom_node.pixels.worker", str(memory_mib), environment=ONE_THREAD
        )
        #: a request whose replies come after those that are read now
        self.ahead: _Request | None = None

    def ask(self, request: _Request, timeout_s: float) -> None:
        """Send a request, unless it was sent ahead."""
        if self.ahead is None:
            with _in_words(timeout_s):
                self.process.say(request, timeout_s=timeout_s)
        self.ahead = None

    def ask_ahead(self, request: _Request, timeout_s: float) -> None:
        """Send the request after the one whose replies are to be read."""
        with _in_words(timeout_s):
            self.process.say(request, timeout_s=timeout_s)
        self.ahead = request

    def reply(self, timeout_s: float) -> dict[str, Any]:
        """Return the next reply."""
        with _in_words(timeout_s):
            reply = self.process.words(timeout_s)
        if not reply:
            raise PixelError("the decoder process answered nonsense")
        return reply

    def picture(self, reply: dict[str, Any], timeout_s: float, dtype: type[Any]) -> NDArray[Any]:
        """Return the picture that follows a reply."""
        with _in_words(timeout_s):
            content = self.process.hear(timeout_s)
        return np.frombuffer(content, dtype).reshape(int(reply["rows"]), int(reply["columns"]))


def _request(path: Path, numbers: Sequence[int], *, stored: bool) -> _Request:
    return {
        "path": os.fspath(path.absolute()),
        "numbers": [int(number) for number in numbers],
        "stored": stored,
    }


@contextmanager
def _in_words(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except HelperSilentError:
        raise PixelError(
            f"no frame within {timeout_s:g} s; the decoder was stopped. "
            "Raise infer.decode_timeout_s if the machine is slow"
        ) from None
    except HelperGoneError as exc:
        if exc.status is None:
            raise PixelError(
                "the decoder process closed its connection over these pixels"
            ) from None
        raise PixelError(
            f"the decoder process died over these pixels (status {exc.status})"
        ) from None
