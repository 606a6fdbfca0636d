"""Who adds to a store, and who erases from it: never both at once.

The kernel keeps the locks on the folders themselves and releases them when their owner dies. Who
adds holds the store together with others, who erases holds it alone. An erasure that waits lets no
harvest begin: it would wait for ever otherwise where several run.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dicom_node.errors import TemporaryError


@contextmanager
def adding(folder: Path) -> Iterator[None]:
    """Hold a store for one change; may be nested in `harvesting`."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def harvesting(folder: Path) -> Iterator[None]:
    """Hold a store for all changes by one instance."""
    with ExitStack() as stack:
        with _locked(_gate(folder), fcntl.LOCK_EX):
            stack.enter_context(_locked(folder, fcntl.LOCK_SH))
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until nobody adds, and hold a store until nothing is left to erase."""
    with _locked(_gate(folder), fcntl.LOCK_EX), _locked(folder, fcntl.LOCK_EX):
        yield


def _gate(folder: Path) -> Path:
    gate = folder / "frames"
    try:
        gate.mkdir(exist_ok=True, mode=0o700)
    except OSError as exc:
        raise TemporaryError(f"the store cannot be written ({exc.strerror}); free space") from None
    return gate


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
