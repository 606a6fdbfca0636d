"""The process in which models run: one that hangs, crashes or eats memory takes only that down.

Frames go there as bytes and answers come back as float32 through a socket pair: about 1.2 ms of CPU
for a frame of 256x384 and two classes, where a VGG16-BN U-Net takes 150 and more.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node import log
from dicom_node.bundle import Manifest
from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, InferenceError, TemporaryError
from dicom_node.helper_process import (
    FAREWELL_S,
    HelperGoneError,
    HelperProcess,
    HelperSilentError,
)

#: A cold GPU takes tens of seconds for its first model.
LOAD_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A bundle that the process has taken."""

    manifest: Manifest
    #: which execution provider of onnxruntime runs it, and which was tried first
    provider: str
    wanted: str


class Host:
    """Keeps one process that runs models; any thread may call, one at a time is served.

    Parameters
    ----------
    settings : InferSettings
        Limits and threads.
    load_timeout_s : float
        Longest wait for a bundle to be loaded and tried.
    """

    def __init__(self, settings: InferSettings, *, load_timeout_s: float = LOAD_TIMEOUT_S) -> None:
        self._settings = settings
        self._load_timeout_s = load_timeout_s
        self._lock = threading.Lock()
        #: one process or none; what it has loaded: path -> provider
        self._helpers: list[HelperProcess] = []
        self._providers: dict[Path, str] = {}
        weakref.finalize(self, _stop, self._helpers)

    @property
    def pid(self) -> int | None:
        """Id of the process, None while there is none."""
        return self._helpers[0].pid if self._helpers else None

    def fault(self) -> str:
        """Return "": a process of one's own is there when it is asked."""
        return ""

    def close(self) -> None:
        """End the process, unless it is at work: then it ends with this one.

        To end it would make a failed analysis of an image whose study goes on after the start. A
        later call starts another.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._end(FAREWELL_S)
            finally:
                self._lock.release()

    def load(self, path: Path) -> Loaded:
        """Verify a bundle and keep it ready.

        Raises
        ------
        BundleError
            When it is refused, or is too slow or too large to load.
        """
        with self._lock, self._loading(path):
            return self._load(path)

    def forget(self, path: Path) -> None:
        """Give up the memory of a bundle."""
        with self._lock:
            if self._providers.pop(path, None) and self._helpers:
                try:
                    self._helpers[0].say({"what": "forget", "path": str(path)}, timeout_s=1.0)
                except (HelperGoneError, HelperSilentError):
                    self._end()

    def doubted(self) -> set[Path]:
        """Return none: what this process loaded it runs."""
        return set()

    def answer(self, path: Path, digest: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frames through a bundle; shapes as `Bundle.answer`.

        Raises
        ------
        InferenceError
            When the model fails, hangs or wants too much memory. What is asked next gets a fresh
            process.
        TemporaryError
            When another bundle stands under this path now.
        """
        with self._lock:
            if not self._has(path):
                self._load_again(path, digest)
            with self._running():
                return self._run(path, frames)

    def _run(self, path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        helper, limit_s = self._helpers[0], self._settings.timeout_s
        words = {"what": "run", "path": str(path), "shape": frames.shape}
        helper.say(words, np.ascontiguousarray(frames).data.cast("B"), timeout_s=limit_s)
        reply = helper.words(limit_s)
        if reply.get("out_of_memory"):
            self._end()
            limit = self._settings.memory_mib
            raise InferenceError(
                f"the model needs more memory than infer.memory_mib allows ({limit} MiB)",
                out_of_memory=True,
            )
        if "error" in reply:
            raise InferenceError(str(reply["error"]))
        self._note_provider(path, str(reply["provider"]))
        return np.frombuffer(helper.hear(limit_s), np.float32).reshape(reply["shape"])

    def _load_again(self, path: Path, digest: str) -> None:
        """Load what a process that ended had loaded."""
        try:
            with self._loading(path):
                loaded = self._load(path)
        except BundleError as exc:
            raise TemporaryError(str(exc)) from None
        if loaded.manifest.digest != digest:
            raise TemporaryError(f"{path.name}: changed while it was used; the new one is next")

    def _load(self, path: Path) -> Loaded:
        self._start()
        self._providers.pop(path, None)
        helper = self._helpers[0]
        helper.say({"what": "load", "path": str(path)}, timeout_s=self._load_timeout_s)
        reply = helper.words(self._load_timeout_s)
        if reply.get("out_of_memory"):
            self._end()
            raise BundleError(f"{path.name}: needs more memory; raise infer.memory_mib")
        if "error" in reply:
            raise BundleError(str(reply["error"]))
        self._providers[path] = str(reply["provider"])
        return Loaded(
            manifest=Manifest.model_validate_json(reply["manifest"]),
            provider=str(reply["provider"]),
            wanted=str(reply["wanted"]),
        )

    def _has(self, path: Path) -> bool:
        return self._is_running() and path in self._providers

    def _is_running(self) -> bool:
        return bool(self._helpers) and self._helpers[0].is_running

    def _start(self) -> None:
        if self._is_running():
            return
        self._end()
        arguments = (self._settings.memory_mib, self._settings.threads or 0)
        self._helpers.append(HelperProcess("dicom_node.infer.worker", *map(str, arguments)))

    def _end(self, patience_s: float = 0.0) -> None:
        self._providers.clear()
        _stop(self._helpers, patience_s)

    def _note_provider(self, path: Path, provider: str) -> None:
        if provider != self._providers[path]:
            self._providers[path] = provider
            log.get("infer").warning(
                "provider failed; the model goes on with another",
                bundle=path.name,
                provider=provider,
            )

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            yield
        except HelperSilentError:
            self._end()
            limit = f"{self._settings.timeout_s:g} s"
            raise InferenceError(
                f"the model gave no answer within {limit} and was stopped; "
                "raise infer.timeout_s if the machine is slow"
            ) from None
        except HelperGoneError as exc:
            self._end()
            raise InferenceError(
                f"the process of the models died over this image ({exc})"
            ) from None

    @contextmanager
    def _loading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except HelperSilentError:
            self._end()
            limit = f"{self._load_timeout_s:g} s"
            raise BundleError(
                f"{path.name}: not loaded and tried within {limit}; take it out of the folder"
            ) from None
        except HelperGoneError as exc:
            self._end()
            raise BundleError(
                f"{path.name}: the process that loads it died ({exc}); raise infer.memory_mib, "
                "or export it again"
            ) from None


def _stop(helpers: list[HelperProcess], patience_s: float = 0.0) -> None:
    for helper in helpers:
        helper.stop(patience_s)
    helpers.clear()
