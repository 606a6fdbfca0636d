"""What ``dicom-node check`` says of the machine: its disk, its clock, its GPU."""

import ctypes
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from dicom_node.bundle import CPU, CUDA, providers
from dicom_node.cli.listening import Finding
from dicom_node.config import Config

#: An object is durable after three of them or so; a disk of a server takes 0.1 to 10 ms for one.
SLOW_FSYNC_MS: Final = 20.0
_FSYNCS: Final = 10
#: What ``adjtimex`` returns where nobody keeps the clock right (TIME_ERROR).
_UNSYNCHRONISED: Final = 5


def disk(config: Config) -> list[Finding]:
    """Hold what is free against the floor below which objects are refused."""
    free_gib = shutil.disk_usage(_nearest(config.node.data)).free / 2**30
    floor_gib = config.node.min_free_gib
    if free_gib < floor_gib:
        fault = (
            f"{free_gib:.1f} GiB free, objects are refused below {floor_gib:g}; "
            "free space or lower node.min_free_gib"
        )
        return [("disk", fault, "")]
    found = f"{free_gib:.1f} GiB free, objects are refused below {floor_gib:g}"
    if free_gib < 2 * floor_gib:
        found += "; warning: free or add space soon"
    return [("disk", "", found)]


def fsync(config: Config) -> list[Finding]:
    """Time how long the disk takes to make 4 KiB durable."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(config.node.data)) as file:
            start = time.perf_counter()
            for _ in range(_FSYNCS):
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
    except OSError as exc:
        return [("fsync", f"{config.node.data} cannot be written ({exc.strerror})", "")]
    each_ms = (time.perf_counter() - start) * 1000 / _FSYNCS
    found = f"{each_ms:.1f} ms each"
    if each_ms > SLOW_FSYNC_MS:
        found += (
            f"; warning: every object waits for it, {SLOW_FSYNC_MS:g} ms is much: put node.data on "
            "a local SSD"
        )
    return [("fsync", "", found)]


def clock(_: Config) -> list[Finding]:
    """Ask the kernel whether something keeps the clock right."""
    state = _adjtimex()
    if state is None:
        return [("clock", "", "not known here whether something keeps it right")]
    if state == _UNSYNCHRONISED:
        found = (
            "warning: the kernel says that nothing keeps it right; let chrony or systemd-timesyncd "
            "do it, for times in results and logs are compared with those of the PACS"
        )
        return [("clock", "", found)]
    return [("clock", "", "is kept right (NTP)")]


def gpu(config: Config) -> list[Finding]:
    """Say what models can run on; a model server has its own."""
    if config.bundles is None or config.infer.url is not None:
        return []
    offered = providers()
    if CUDA in offered:
        return [("gpu", "", "CUDA is offered; 'dicom-node bundles list' says what runs on it")]
    if offered == [CPU] and _has_device():
        found = (
            "warning: a GPU is here and models run on the CPU: install its driver, and "
            "onnxruntime-gpu in the place of onnxruntime"
        )
        return [("gpu", "", found)]
    return [("gpu", "", "none: models run on the CPU")]


def _has_device() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _adjtimex() -> int | None:
    """Return the state of the kernel's clock, None where it does not say."""
    if sys.platform != "linux":
        return None
    asked = ctypes.create_string_buffer(512)  # struct timex, all 0: it only asks
    try:
        state = int(ctypes.CDLL(None).adjtimex(asked))
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None


def _nearest(path: Path) -> Path:
    return path if path.exists() else _nearest(path.parent)
