"""Where models run: what `Models` asks of a host, and which one the settings want."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import InferSettings
from dicom_node.infer.host import Host, Loaded


class Hosting(Protocol):
    """A place where models run; `Host` says what each method does."""

    @property
    def pid(self) -> int | None:
        """Id of the process on this machine, None while there is none."""

    def fault(self) -> str:
        """Say why nothing can be asked of it now, "" when it can."""

    def load(self, path: Path) -> Loaded:
        """Verify a bundle and keep it ready."""

    def forget(self, path: Path) -> None:
        """Give up a bundle."""

    def doubted(self) -> set[Path]:
        """Return the bundles that it may no longer run; they are loaded anew."""

    def answer(self, path: Path, digest: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frames through a bundle."""

    def close(self) -> None:
        """Give up everything."""


def host_for(settings: InferSettings) -> Hosting:
    """Return the host that the settings want: a process of this node, or a model server."""
    if settings.url is None:
        return Host(settings)
    # it would write lines of its own between those of the log
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # grpcio is loaded, and needed, only here
    from dicom_node.infer.remote import RemoteHost  # noqa: PLC0415

    return RemoteHost(settings, settings.url)
