"""Pictures of the store: 8-bit grey PNG, written once, durable before anything names them."""

import hashlib
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import get_ident

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import StoreError, TemporaryError


def digest(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a picture's shape and pixels, hexadecimal."""
    height, width = pixels.shape
    return hashlib.sha256(f"{height}x{width} ".encode() + pixels.tobytes()).hexdigest()


def path_of(folder: Path, name: str) -> Path:
    """Return where a picture lies: 256 subfolders keep each of them listable."""
    return folder / name[:2] / f"{name}.png"


def write(path: Path, pixels: NDArray[np.uint8]) -> int:
    """Write a picture durably and return its size in bytes.

    Raises
    ------
    TemporaryError
        When the disk does not take it.
    """
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", optimize=False)
    part = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with part.open("wb") as file:
            file.write(encoded.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        for folder in (path.parent, path.parent.parent):
            sync(folder)
    except OSError as exc:
        with suppress(OSError):
            part.unlink()
        raise TemporaryError(f"the store cannot be written ({exc.strerror}); free space") from None
    return encoded.tell()


def read(path: Path) -> NDArray[np.uint8]:
    """Read a picture.

    Returns
    -------
    ndarray of uint8, shape (H, W)

    Raises
    ------
    StoreError
        When it is missing or damaged.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return np.array(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoreError(
            f"{path.name}: cannot be read from the store ({type(exc).__name__}); "
            "run 'dicom-node store audit'"
        ) from None


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
