"""What keeps sound from going on: ribs, gas, and a probe that lost contact."""

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.anatomy import Anatomy, Array
from dicom_node.phantom.field import LINES, SAMPLES, Field
from dicom_node.phantom.tissue import liver_of

#: A liver-kidney distance up to this many gaps counts as their interface.
TOUCHING = 1.6


def shadows(anatomy: Anatomy, field: Field, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the loss in dB and the bright echoes of what causes it, float32 (SAMPLES, LINES)."""
    loss, echo = np.zeros((2, SAMPLES, LINES), np.float32)
    if anatomy.nothing == "air":
        return _no_contact(field)
    if anatomy.nothing == "gas":
        _gas(loss, echo, field, rng)
    interface = interface_lines(anatomy, field)
    if anatomy.covered:
        _rib(loss, echo, field, _covering(interface, anatomy.covered, rng))
    for edge in ((0, LINES // 10), (LINES - LINES // 10, LINES)):
        # a rib at the rim of the field, where it does not spoil the view
        if rng.random() < 0.25 and (edge[1] <= interface[0] or interface[1] <= edge[0]):
            _rib(loss, echo, field, edge)
    return loss, echo


def interface_lines(anatomy: Anatomy, field: Field) -> tuple[int, int]:
    """Return the first and last beam line (half-open) that crosses the hepatorenal interface."""
    if anatomy.kidney is None or anatomy.liver is None:
        return (0, 0)
    kidney = anatomy.kidney.distance(field.x, field.z)
    liver = liver_of(anatomy, field.x, field.z, kidney)
    between = (kidney > 0) & (kidney < TOUCHING * anatomy.gap) & (liver < 0)
    lines = np.flatnonzero(between.any(axis=0))
    return (int(lines[0]), int(lines[-1]) + 1) if lines.size else (0, 0)


def _covering(lines: tuple[int, int], part: float, rng: np.random.Generator) -> tuple[int, int]:
    width = max(round((lines[1] - lines[0]) * part), 12)
    first = int(rng.integers(lines[0], max(lines[1] - width, lines[0]) + 1))
    return first, first + width


def _rib(loss: Array, echo: Array, field: Field, lines: tuple[int, int]) -> None:
    line = np.arange(LINES, dtype=np.float32)[None, :]
    inside = _step((line - lines[0]) / 1.5) * _step((lines[1] - line) / 1.5)
    middle, half = (lines[0] + lines[1]) / 2, max((lines[1] - lines[0]) / 2, 1)
    face = 0.10 + 0.03 * ((line - middle) / half) ** 2
    loss -= 48.0 * inside * _step((field.z - face) / 0.012)
    echo += 16.0 * inside * np.exp(-(((field.z - face) / 0.009) ** 2))


def _gas(loss: Array, echo: Array, field: Field, rng: np.random.Generator) -> None:
    line = np.linspace(0, 1, LINES, dtype=np.float32)[None, :]
    waves = rng.uniform(3, 9, 3), rng.uniform(0, 2 * np.pi, 3)
    face = rng.uniform(0.16, 0.26) + 0.02 * sum(
        np.sin(rate * line * 2 + phase) for rate, phase in zip(*waves, strict=True)
    )
    below = field.z - face
    # the dirty shadow: reverberation that fades
    loss -= np.where(below > 0, np.minimum(6 + 34 * below, 24), 0).astype(np.float32)
    echo += 17.0 * np.exp(-((below / 0.012) ** 2))
    echo += 6.0 * np.where(below > 0, np.cos(below * 2 * np.pi / 0.075) ** 8, 0)


def _step(value: NDArray[np.floating]) -> Array:
    """Return the logistic function, which tanh gives without overflow."""
    return np.asarray((np.tanh(value / 2) + 1) / 2, np.float32)


def _no_contact(field: Field) -> tuple[Array, Array]:
    rings = np.cos(field.z * 2 * np.pi / 0.045) ** 6 * np.exp(-field.z / 0.09)
    loss = -np.minimum(60.0, 8 + 140 * field.z)
    return loss.astype(np.float32), (22.0 * rings).astype(np.float32)
