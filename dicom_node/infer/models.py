"""The folder of bundles: loaded when used, re-read when it changes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dicom_node import log
from dicom_node.bundle import Bundle
from dicom_node.errors import BundleError
from dicom_node.records import Geometry

#: What tells whether a file is still the one that was loaded: name, size, time of change.
_Stamp = tuple[str, int, int]


class Models:
    """The bundles of one folder.

    A bundle dropped into the folder serves from the next study on; a damaged one is refused with a
    sentence in the log and harms no other.

    Parameters
    ----------
    folder : Path or None
        Folder of ``.onnx`` files; None serves no model.
    threads : int or None
        onnxruntime's threads for each model.
    """

    def __init__(self, folder: Path | None, *, threads: int | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._loaded: dict[_Stamp, Bundle | None] = {}

    def fitting(self, groups: frozenset[str], geometry: Geometry) -> tuple[Bundle, ...]:
        """Return the bundles whose routing rule fits these weak labels, by file name."""
        return tuple(
            bundle for bundle in self.current() if bundle.manifest.routing.fits(groups, geometry)
        )

    def current(self) -> tuple[Bundle, ...]:
        """Return all sound bundles that stand in the folder now, by file name."""
        if self._folder is None or not self._folder.is_dir():
            return ()
        stamps = [_stamp(path) for path in sorted(self._folder.glob("*.onnx"))]
        self._loaded = {
            stamp: self._loaded[stamp] if stamp in self._loaded else self._load(stamp[0])
            for stamp in stamps
        }
        return tuple(bundle for bundle in self._loaded.values() if bundle is not None)

    def _load(self, path: str) -> Bundle | None:
        try:
            bundle = Bundle(Path(path), self._threads)
        except BundleError as exc:
            log.get("infer").error("bundle refused", bundle=Path(path).name, reason=str(exc))
            return None
        log.get("infer").info(
            "bundle loaded",
            bundle=Path(path).name,
            version=bundle.manifest.version,
            digest=bundle.manifest.digest,
        )
        return bundle


def fingerprint(bundles: Sequence[Bundle]) -> str:
    """Return a name for "analysed by exactly these models", 64 hexadecimal characters."""
    digests = sorted(bundle.manifest.digest for bundle in bundles)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
