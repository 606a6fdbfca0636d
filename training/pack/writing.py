"""Files of a pack, written with plain writes: a full disk is an error and no dead process."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


class ArrayFile:
    """An ``.npy`` file of uint8 (N, H, W) that grows by one picture at a time.

    Parameters
    ----------
    path : Path
        Written anew.
    shape : tuple of int
        (H, W) of a picture.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._shape, self._count = shape, 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, picture: NDArray[np.uint8]) -> None:
        """Write one picture, (H, W), behind the last."""
        self._file.write(np.ascontiguousarray(picture).data)
        self._count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                # NumPy leaves room in the header for the first axis to grow
                self._file.seek(0)
                self._write_header()
                self._file.flush()
                os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        shape = (self._count, *self._shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)


def write_npz(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns durably as an ``.npz`` file."""
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **columns)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON durably."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
