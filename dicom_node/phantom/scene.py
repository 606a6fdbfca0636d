"""One view through one probe, as frames with exact masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import PermanentError
from dicom_node.phantom.anatomy import Anatomy, Array, draw_anatomy
from dicom_node.phantom.banner import draw_banner
from dicom_node.phantom.bmode import compress, slow_field, speckle
from dicom_node.phantom.field import Field, convert, convert_labels, field_of
from dicom_node.phantom.probes import PROBES
from dicom_node.phantom.shadow import shadows
from dicom_node.phantom.tissue import Texture, paint

#: One breath in frames, and how far it moves the organs, in depths.
BREATH_FRAMES = 40
BREATH = 0.022


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """What to render."""

    #: view quality, 0 to 4: see the ladder in `dicom_node.phantom.anatomy`
    quality: int
    frames: int = 1
    #: model token out of `dicom_node.phantom.probes.PROBES`
    probe: str = "SC6-1"
    rows: int = 448
    columns: int = 608
    #: burned in above the region; fake
    banner: str = "PHANTOM^NOBODY  ID 0000"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A rendered view."""

    #: uint8, (N, R, C)
    frames: NDArray[np.uint8]
    #: uint8, (N, R, C): 0 background, 1 liver, 2 kidney, where they are seen
    label_maps: NDArray[np.uint8]
    quality: int
    #: where and how large the scanned region is
    field: Field


@dataclass(frozen=True, kw_only=True)
class _View:
    """What stays the same over the frames of a cine."""

    anatomy: Anatomy
    texture: Texture
    shadow_db: Array
    bright_db: Array
    gain_db: float


def render(spec: SceneSpec, rng: np.random.Generator) -> Scene:
    """Render a view; the same generator state gives the same pixels.

    Raises
    ------
    PermanentError
        When the quality, the probe or the number of frames is out of range.
    """
    _check(spec)
    field = field_of(PROBES[spec.probe], spec.rows, spec.columns)
    view = _draw_view(spec.quality, field, rng)
    banner = draw_banner(field, spec.banner)
    frames, maps = np.zeros((2, spec.frames, spec.rows, spec.columns), np.uint8)
    still, phase = speckle(rng), rng.uniform(0, 2 * np.pi)
    for n in range(spec.frames):
        lift = BREATH * (np.sin(2 * np.pi * n / BREATH_FRAMES + phase) - np.sin(phase))
        # speckle moves with the tissue and loses a part of itself from frame to frame
        moved = np.roll(still, round(lift * still.shape[0]), 0) * np.float32(0.93)
        changing = moved + speckle(rng) * np.float32(0.37) if n else still
        x, z = field.x, field.z - np.float32(lift)
        tissue = paint(view.anatomy, x, z, view.texture, view.shadow_db)
        np.add(tissue.echo_db, view.bright_db, out=tissue.echo_db)
        grey = compress(tissue, changing, view.gain_db, field.z)
        frames[n] = np.maximum(convert(field, grey), banner)
        maps[n] = convert_labels(field, tissue.labels)
    return Scene(frames=frames, label_maps=maps, quality=spec.quality, field=field)


def _check(spec: SceneSpec) -> None:
    if not 0 <= spec.quality <= 4:
        raise PermanentError(f"view quality {spec.quality}: give 0 to 4")
    if spec.probe not in PROBES:
        raise PermanentError(f"probe {spec.probe!r}: give one of {', '.join(PROBES)}")
    if spec.frames < 1:
        raise PermanentError(f"{spec.frames} frames: give at least 1")


def _draw_view(quality: int, field: Field, rng: np.random.Generator) -> _View:
    anatomy = draw_anatomy(quality, rng)
    texture = Texture(
        coarse=slow_field(rng, samples=14, lines=12), fine=slow_field(rng, samples=3, lines=6)
    )
    shadow_db, bright_db = shadows(anatomy, field, rng)
    return _View(
        anatomy=anatomy,
        texture=texture,
        shadow_db=shadow_db,
        bright_db=bright_db,
        gain_db=float(rng.uniform(-4, 4)),
    )
