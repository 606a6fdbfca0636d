"""Frames of clips with a class and a fold, from an index of pictures: no store, no DICOM.

The index is a CSV file beside the pictures, one line a frame: ``path``, ``patient`` (the clip, or
whoever must not stand on both sides), ``label`` as ``covid;fold=0``, and ``dataset``. The number at
the end of a picture's name is its place in the clip.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dicom_node.errors import ConfigError, StoreError
from dicom_node.pixels.geometry import to_network
from dicom_node.store.label_sets import class_sets
from training.config import Size
from training.pack.rows import NONE, Pack, Rows

_LABEL: Final = re.compile(r"([^;]+);fold=(\d+)")
_NUMBER: Final = re.compile(r"(\d+)$")
_COLUMNS: Final = ("path", "patient", "label")
#: two to train and validate on, one to test
_FEWEST_FOLDS: Final = 3
_DIGITS: Final = 16
#: Pillow's modes of more than 8 bits a pixel begin so.
_DEEP: Final = ("I", "F")


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedFrames:
    """Frames, none of which belongs to a split yet, and the fold of each."""

    pack: Pack
    #: int64, (N,)
    folds: NDArray[np.int64]

    @property
    def names(self) -> list[int]:
        """The folds that there are."""
        return [int(fold) for fold in np.unique(self.folds)]


@dataclass(frozen=True, kw_only=True)
class _Line:
    path: str
    clip: str
    label: str
    fold: int
    number: int


def read(index: Path, *, labels: str, size: Size, dataset: str | None = None) -> FoldedFrames:
    """Read the frames of an index.

    Parameters
    ----------
    index : Path
        The CSV file; pictures lie below its folder.
    labels : str
        The class set.
    size : Size
        Of all frames; they are resized by the function that serving uses.
    dataset : str, optional
        Only the lines of this one.

    Raises
    ------
    ConfigError
        When there is no such class set.
    StoreError
        When the index or a picture will not do; says which line.
    """
    if labels not in class_sets():
        raise ConfigError(f"labels: {labels!r}: take one of {', '.join(class_sets())}")
    classes = class_sets()[labels].names
    lines = sorted(_lines(index, dataset), key=lambda line: (line.clip, line.number, line.path))
    _check(index, lines, classes)
    pictures = np.empty((len(lines), size.height, size.width), np.uint8)
    for place, line in enumerate(lines):
        pictures[place] = _picture(index.parent / line.path, size)
    return FoldedFrames(
        pack=Pack(
            folder=index.parent,
            store_version=_version(lines, pictures),
            size=size,
            rows=_rows(lines, classes),
            frames=pictures,
            masks=None,
            label_sets={},
            class_sets={labels: classes},
        ),
        folds=np.array([line.fold for line in lines], np.int64),
    )


def _lines(index: Path, dataset: str | None) -> Iterator[_Line]:
    try:
        text = index.read_text("utf-8-sig")  # Excel begins with a mark
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{index}: cannot be read ({exc}); name a CSV file in UTF-8") from None
    table = csv.DictReader(text.splitlines())
    missing = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise StoreError(f"{index}: has no column {', '.join(missing)}; add it")
    for row in table:
        if dataset is not None and row.get("dataset") != dataset:
            continue
        if any(row[name] is None for name in _COLUMNS):
            raise StoreError(
                f"{index}:{table.line_num}: {', '.join(n for n in _COLUMNS if row[n] is None)} is "
                "missing; write a value for each column"
            )
        said = _LABEL.fullmatch(row["label"])
        if not said:
            raise StoreError(
                f"{index}:{table.line_num}: label {row['label']!r}; write CLASS;fold=N, or choose "
                "the lines by 'dataset'"
            )
        number = _NUMBER.search(Path(row["path"]).stem)
        yield _Line(
            path=row["path"],
            clip=row["patient"],
            label=said[1],
            fold=int(said[2]),
            number=int(number[1]) if number else 0,
        )


def _check(index: Path, lines: Sequence[_Line], classes: Sequence[str]) -> None:
    known: dict[str, tuple[str, int]] = {}
    for line in lines:
        if line.label not in classes:
            raise StoreError(f"{index}: class {line.label!r}; known are {', '.join(classes)}")
        if known.setdefault(line.clip, (line.label, line.fold)) != (line.label, line.fold):
            raise StoreError(
                f"{index}: a clip ({line.path}) has two classes or lies in two folds: its frames "
                "would be learned and tested; give it one of each"
            )
    folds = {line.fold for line in lines}
    if len(folds) < _FEWEST_FOLDS:
        raise StoreError(
            f"{index}: {len(lines)} frames in {len(folds)} fold(s); it takes {_FEWEST_FOLDS} or "
            "more, see 'dataset'"
        )


def _picture(path: Path, size: Size) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(_DEEP):
                # what of them is black and white nobody says, and cut off they are white all over
                raise StoreError(
                    f"{path}: more than 8 bits a pixel (mode {picture.mode}); save it with 8, as "
                    "bright as it is to be seen"
                )
            grey = np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise StoreError(
            f"{path}: cannot be read ({type(exc).__name__}); mend the picture, or drop its line"
        ) from None
    return to_network(grey, None, height=size.height, width=size.width)


def _rows(lines: Sequence[_Line], classes: Sequence[str]) -> Rows:
    count = len(lines)
    clips = np.unique([line.clip for line in lines], return_inverse=True)[1].astype(np.int32)
    return Rows(
        frame_id=np.array([hashlib.sha256(line.path.encode()).hexdigest() for line in lines]),
        patient=clips,
        study=clips,
        instance=clips,
        # from 1, in the order of the numbers
        frame_number=np.arange(1, count + 1, dtype=np.int32),
        split=np.full(count, NONE, np.int8),
        groups=np.zeros(count, np.uint8),
        geometry=np.full(count, NONE, np.int8),
        quality=np.full(count, NONE, np.int8),
        has_mask=np.zeros(count, np.bool_),
        label_set=np.full(count, NONE, np.int16),
        class_set=np.zeros(count, np.int16),
        class_index=np.array([classes.index(line.label) for line in lines], np.int16),
    )


def _version(lines: Sequence[_Line], pictures: NDArray[np.uint8]) -> str:
    """Return what tells one set of frames from another."""
    digest = hashlib.sha256(pictures.tobytes())
    digest.update(repr(lines).encode())
    return digest.hexdigest()[:_DIGITS]
