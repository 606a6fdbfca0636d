"""From anatomy to echoes: how bright each point scatters, and how much sound reaches it.

Echo levels are in dB against liver. They are chosen by eye, not measured.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.anatomy import Anatomy, Array, Ellipse
from dicom_node.phantom.field import LINES, SAMPLES

LIVER = 1
KIDNEY = 2
#: Below this loss a point still counts as seen, and so belongs to an organ's mask.
SEEN_DB = -9.0


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """One frame in beam space, every array of shape (SAMPLES, LINES)."""

    #: float32, level of the scatterers in dB against liver
    echo_db: Array
    #: float32, loss by shadows in dB, 0 or negative
    shadow_db: Array
    #: uint8, 0 background, 1 liver, 2 kidney; only what is seen
    labels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Slow random fields of one view, float32 (SAMPLES, LINES), zero mean and unit spread."""

    coarse: Array
    fine: Array


def paint(anatomy: Anatomy, x: Array, z: Array, texture: Texture, shadow_db: Array) -> Tissue:
    """Paint one frame.

    Parameters
    ----------
    anatomy : Anatomy
        The view.
    x, z : array
        Positions of the beam samples in depths, float32 (SAMPLES, LINES), moved against the
        anatomy as the patient breathes.
    texture : Texture
        Random fields.
    shadow_db : array
        Loss by ribs and gas, float32 (SAMPLES, LINES).
    """
    echo = 1.0 + 5.0 * texture.coarse + 2.5 * texture.fine
    labels = np.zeros((SAMPLES, LINES), np.uint8)
    kidney = anatomy.kidney.distance(x, z) if anatomy.kidney else None
    if anatomy.nodule:
        _paint_nodule(echo, anatomy.nodule.distance(x, z))
    if anatomy.liver:
        inside = liver_of(anatomy, x, z, kidney)
        _paint_liver(echo, inside, anatomy, (x, z), texture)
        labels[inside < 0] = LIVER
    if anatomy.kidney and kidney is not None:
        _paint_kidney(echo, kidney, anatomy.kidney, (x, z), texture)
        labels[kidney < 0] = KIDNEY
    _paint_wall(echo, z, anatomy.wall, texture)
    labels[(shadow_db < SEEN_DB) | (z < anatomy.wall)] = 0
    return Tissue(echo_db=echo, shadow_db=shadow_db, labels=labels)


def liver_of(anatomy: Anatomy, x: Array, z: Array, kidney: Array | None) -> Array:
    """Return the signed distance from the liver's rim: its outline less the kidney's room."""
    if anatomy.liver is None:
        return np.full_like(x, np.inf)
    distance = anatomy.liver.distance(x, z)
    if anatomy.kidney and kidney is not None:
        distance = np.maximum(distance, anatomy.gap - kidney)
        # behind the kidney there is no liver
        behind = (z - anatomy.kidney.z) - 0.6 * (anatomy.kidney.x - x)
        distance = np.maximum(distance, behind)
    return distance


def _paint_nodule(echo: Array, distance: Array) -> None:
    echo[distance < 0] = -11.0 + 0.3 * echo[distance < 0]
    echo += 6.0 * _line(distance, 0.006)


def _paint_liver(
    echo: Array, inside: Array, anatomy: Anatomy, points: tuple[Array, Array], texture: Texture
) -> None:
    at = inside < 0
    echo[at] = 0.7 * texture.coarse[at] + 0.5 * texture.fine[at]
    for vessel in anatomy.vessels:
        distance = vessel.distance(*points)
        echo[at & (distance < 0.005)] = 6.0
        echo[at & (distance < 0)] = -24.0
    # capsule and diaphragm: bright where they stand across the beam, and never in one piece
    echo += _line(inside, 0.007) * 20.0 * _facing(inside) ** 2 * _broken(texture)


def _paint_kidney(
    echo: Array, distance: Array, kidney: Ellipse, points: tuple[Array, Array], texture: Texture
) -> None:
    fat = (distance >= 0) & (distance < 0.05)
    echo[fat] += np.clip(4.0 - 0.5 * echo[fat], 0, 6) * (1 - distance[fat] / 0.05)
    cos, sin = np.cos(kidney.angle), np.sin(kidney.angle)
    u = ((points[0] - kidney.x) * cos + (points[1] - kidney.z) * sin) / kidney.long
    v = ((points[1] - kidney.z) * cos - (points[0] - kidney.x) * sin) / kidney.short
    radius, turn = np.hypot(u, v), np.arctan2(v, u)
    at = distance < 0
    echo[at] = -5.5 + 0.8 * texture.coarse[at] + 0.8 * texture.fine[at]
    petals = _step((np.sin(7 * turn + kidney.phase) - 0.2) / 0.15)
    ring = _step((radius - 0.55) / 0.03) * _step((0.80 - radius) / 0.03)
    rim = 0.50 + 0.08 * np.sin(5 * turn + kidney.phase) + 0.05 * texture.fine
    sinus = np.clip((rim - radius) / 0.15, 0, 1)
    echo += at * (sinus * (13.0 + 3.5 * texture.fine) - 6.0 * petals * ring)
    capsule = _line(distance - 0.005, 0.006)
    echo += capsule * (2.0 + 17.0 * _facing(distance) ** 3) * _broken(texture)


def _paint_wall(echo: Array, z: Array, wall: float, texture: Texture) -> None:
    part = z / wall + 0.04 * texture.coarse
    fat, muscle = part < 0.45, (part >= 0.45) & (part < 1)
    echo[fat] = 2.0 + 3.0 * texture.fine[fat]
    echo[muscle] = -4.0 + 5.0 * np.sin(34 * part[muscle]) + 2.0 * texture.coarse[muscle]
    for at, level in ((0.0, 16.0), (0.45, 13.0), (0.72, 9.0), (1.0, 15.0)):
        echo += _line(part - at, 0.045) * level


def _line(distance: NDArray[np.floating], half_width: float) -> Array:
    return np.asarray(np.exp(-((distance / half_width) ** 2)), np.float32)


def _step(value: NDArray[np.floating]) -> Array:
    return np.asarray((np.tanh(value / 2) + 1) / 2, np.float32)


def _broken(texture: Texture) -> Array:
    """Return the strength of a reflector along its way, 0.3 to 1."""
    return np.asarray(np.clip(0.75 + 0.3 * texture.coarse, 0.3, 1), np.float32)


def _facing(distance: Array) -> Array:
    """Return |cos| of the angle between a surface's normal and the beam, 0 to 1."""
    return np.asarray(np.clip(np.abs(np.gradient(distance, axis=0)) * SAMPLES, 0, 1), np.float32)
