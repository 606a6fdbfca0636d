"""NIfTI volumes with label masks, as LiTS has them, into a folder that `from_folder` reads.

A volume is turned by its affine and drawn as the harvest draws an axial series: slices from the
feet to the head, rows to the patient's left, columns to the back, pixels square, the whole extent
over 48 slices. Coronal and sagittal series are cut anew, too: NIfTI does not say how slices lay.
"""

import io
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeVar

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import StoreError
from dicom_node.store.volumes import SHAPE
from training import runs

#: Axes of a volume: to the patient's left, back and head.
_AXES: Final = "LPS"
#: CT: Hounsfield units of black and white; as the next two that of the harvest: a test compares.
WINDOW_HU: Final = (-500.0, 500.0)
FEWEST_SLICES: Final = 8
#: An axis of the voxels is one of the patient's to 37 degrees, as the plane of a series is.
LEAST_PART: Final = 0.8
#: Axes stand at right angles, but for rounding (cosine).
_SQUARE: Final = 0.01
#: Masks and volumes lie in the same place, mm; single precision rounds.
_SAME_PLACE_MM: Final = 0.01
#: `VolumeSegmentSettings.labels` has no more.
_MOST_LABELS: Final = 16
_VOLUME: Final = "volume-"
_MASK: Final = "segmentation-"
_ENDS: Final = (".nii", ".nii.gz")
#: What reading a file raises that is none, or not whole.
_DAMAGED: Final = (OSError, ValueError, EOFError, zlib.error, ImageFileError, HeaderDataError)
Voxels = NDArray[np.uint8]
Values = NDArray[Any]
T = TypeVar("T", np.float32, np.uint8)


def pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, volume and mask of ``volume-NAME.nii`` with ``segmentation-NAME.nii``.

    Both may end in ``.nii.gz``, and lie in the same folder or in others below; what lies in one
    folder belongs together first.

    Raises
    ------
    StoreError
        When there is no pair, or more than one of a name.
    """
    volumes, masks = _named(folder, _VOLUME), _named(folder, _MASK)
    both = sorted(volumes.keys() & masks.keys())
    if not both:
        raise StoreError(
            f"{folder}: no volume-NAME.nii with its segmentation-NAME.nii; name the folder of them"
        )
    found = [(name, *_pair(folder, volumes[name], masks[name])) for name in both]
    yield from found


def convert(volume: Path, mask: Path, out: Path) -> int:
    """Write one volume and its mask as `from_folder` wants them; return the largest label.

    Raises
    ------
    StoreError
        When they cannot be read, do not fit each other, or are no volume with labels.
    """
    image, truth = _opened(volume), _opened(mask)
    if image.shape != truth.shape or not _lie_together(image, truth):
        raise StoreError(
            f"{mask.name}: {truth.shape} voxels where {volume.name} has {image.shape}, or in "
            "another place; take the mask that belongs to it"
        )
    spacing_mm = _spacing_mm(image, volume.name)
    voxels = _voxels(image, volume.name, spacing_mm)
    labels = _labels(truth, mask.name, spacing_mm)
    content = io.BytesIO()
    np.savez_compressed(content, volume=voxels, mask=labels)
    runs.replace(out, content.getvalue())
    return int(labels.max())


def _named(folder: Path, start: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob(f"{start}*")):
        if path.name.endswith(_ENDS):
            name = path.name.removeprefix(start).removesuffix(".gz").removesuffix(".nii")
            found.setdefault(name, []).append(path)
    return found


def _pair(folder: Path, volumes: list[Path], masks: list[Path]) -> tuple[Path, Path]:
    every = list(product(volumes, masks))
    beside = [(volume, mask) for volume, mask in every if volume.parent == mask.parent]
    found = beside or every
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in (*volumes, *masks))
        raise StoreError(
            f"{folder}: {names} have one name, and a name is one volume with one mask; name each "
            "pair otherwise"
        )
    return found[0]


def _opened(path: Path) -> Nifti1Image:
    try:
        image = nib.load(path)
    except _DAMAGED as exc:
        raise _unreadable(path.name, exc) from None
    is_volume = isinstance(image, Nifti1Image) and len(image.shape) == len(SHAPE)
    if not is_volume or image.get_data_dtype().kind not in "iuf":
        raise StoreError(f"{path.name}: no NIfTI volume of three axes; take one time, one channel")
    return image


def _unreadable(name: str, exc: Exception) -> StoreError:
    return StoreError(f"{name}: no whole NIfTI file ({type(exc).__name__}); fetch it again")


def _lie_together(one: Nifti1Image, other: Nifti1Image) -> bool:
    last = [*(side - 1 for side in one.shape), 1]
    places = [np.column_stack((image.affine, image.affine @ last)) for image in (one, other)]
    return np.allclose(places[0], places[1], rtol=0, atol=_SAME_PLACE_MM)


def _spacing_mm(image: Nifti1Image, name: str) -> tuple[float, float, float]:
    """Return the way from voxel to voxel to the head, to the back and to the left."""
    axes = image.affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not (np.isfinite(image.affine).all() and (lengths > 0).all()):
        raise StoreError(f"{name}: its affine gives voxels no size; write the file anew")
    units = axes / lengths
    angles = np.abs(units.T @ units - np.eye(len(SHAPE)))
    if angles.max() > _SQUARE or (np.abs(units).max(axis=0) < LEAST_PART).any():
        raise StoreError(f"{name}: its voxels lie askew; resample it along the patient's axes")
    goes_to = _turn(image)[:, 0].astype(int)
    left, back, head = np.argsort(goes_to)
    if image.shape[head] < FEWEST_SLICES:
        raise StoreError(f"{name}: {image.shape[head]} slices; take {FEWEST_SLICES} or more")
    return float(lengths[head]), float(lengths[back]), float(lengths[left])


def _turn(image: Nifti1Image) -> NDArray[np.float64]:
    """Return which of the patient's axes each axis of a file is, and whether it runs backwards."""
    found = nib.orientations.io_orientation(image.affine)
    wanted = nib.orientations.axcodes2ornt(_AXES)
    turn: NDArray[np.float64] = nib.orientations.ornt_transform(found, wanted)
    return turn


def _stored(image: Nifti1Image, name: str) -> tuple[Values, float, float]:
    """Return what lies in a file, slices first, with slope and intercept.

    As it is stored: a large CT takes 400 MB so, and 1.6 GB as numbers that are scaled.
    """
    try:
        stored = image.dataobj.get_unscaled()
    except _DAMAGED as exc:
        raise _unreadable(name, exc) from None
    turned = nib.orientations.apply_orientation(stored, _turn(image))
    return turned.transpose(2, 1, 0), float(image.dataobj.slope), float(image.dataobj.inter)


def _voxels(image: Nifti1Image, name: str, spacing_mm: tuple[float, float, float]) -> Voxels:
    """Return a volume as the harvest makes it of CT."""
    stored, slope, intercept = _stored(image, name)
    low, high = WINDOW_HU
    voxels = np.zeros(SHAPE, np.uint8)
    for number, at in enumerate(np.linspace(0, len(stored) - 1, SHAPE[0])):
        below, part = int(at), np.float32(at % 1)
        above = min(below + 1, len(stored) - 1)
        one, other = (stored[place].astype(np.float32) for place in (below, above))
        values = (one * (1 - part) + other * part) * np.float32(slope) + np.float32(intercept)
        drawn = _drawn(values, spacing_mm, Image.Resampling.BILINEAR, np.float32(low))
        grey = np.clip((drawn - low) * (255 / (high - low)) + 0.5, 0, 255)
        voxels[number] = np.nan_to_num(grey, nan=0.0)
    if voxels.min() == voxels.max():
        raise StoreError(f"{name}: one grey all over in Hounsfield units; take a CT")
    return voxels


def _labels(truth: Nifti1Image, name: str, spacing_mm: tuple[float, float, float]) -> Voxels:
    stored, slope, intercept = _stored(truth, name)
    values = stored if (slope, intercept) == (1, 0) else stored * slope + intercept
    # NaN is neither
    if not (values.min() >= 0 and values.max() < _MOST_LABELS):
        raise StoreError(
            f"{name}: values from {values.min()} to {values.max()}; labels are 0 to "
            f"{_MOST_LABELS - 1}"
        )
    labels = values.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise StoreError(f"{name}: values between whole numbers; take the labels themselves")
    nearest = np.round(np.linspace(0, len(labels) - 1, SHAPE[0])).astype(int)
    planes = [
        _drawn(labels[at], spacing_mm, Image.Resampling.NEAREST, np.uint8(0)) for at in nearest
    ]
    return np.stack(planes)


def _drawn(
    plane: NDArray[T],
    spacing_mm: tuple[float, float, float],
    resampling: Image.Resampling,
    around: T,
) -> NDArray[T]:
    """Return a slice in the middle of 192 x 192 voxels, its longer side as long as they are."""
    size_mm = np.array(plane.shape) * spacing_mm[1:]
    sides = np.maximum(1, np.round(size_mm / (size_mm / SHAPE[1:]).max()))
    rows, columns = (int(side) for side in sides)
    picture = Image.fromarray(np.ascontiguousarray(plane)).resize((columns, rows), resampling)
    canvas = np.full(SHAPE[1:], around, plane.dtype)
    top, left = (SHAPE[1] - rows) // 2, (SHAPE[2] - columns) // 2
    canvas[top : top + rows, left : left + columns] = np.asarray(picture)
    return canvas
