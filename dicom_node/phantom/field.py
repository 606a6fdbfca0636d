"""The field of view: beam lines in front of the probe, and scan conversion to pixels.

Beam space is an array of shape (SAMPLES, LINES): axis 0 runs down a line from the skin, axis 1 from
the left line to the right. Positions are given in parts of the imaging depth, x to the right and z
away from the skin, so that one anatomy fits every probe.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.probes import Probe
from dicom_node.records import Box, Geometry

SAMPLES = 320
LINES = 192
#: Margins around the scanned region in pixels: banner above, side bar right, footer below.
BANNER_PX = 40
SIDE_PX = 32
FOOTER_PX = 14


@dataclass(frozen=True, kw_only=True)
class Field:
    """Where a probe looks and how that becomes pixels."""

    rows: int
    columns: int
    #: bounding box of the scanned region
    region: Box
    #: edge of one square pixel
    pixel_mm: float
    #: float32, (SAMPLES, LINES), in depths
    x: NDArray[np.float32]
    z: NDArray[np.float32]
    #: inside the sector: flat pixel numbers, int64 (P,)
    pixels: NDArray[np.int64]
    #: ... and the beam position of each, in samples and lines, float32 (P,)
    sample: NDArray[np.float32]
    line: NDArray[np.float32]


@lru_cache(maxsize=32)
def field_of(probe: Probe, rows: int, columns: int) -> Field:
    """Lay a probe's field of view into a picture of `rows` x `columns` pixels."""
    x_mm, z_mm = _beams_mm(probe)  # (SAMPLES, LINES)
    room = (columns - 2 * SIDE_PX, rows - BANNER_PX - FOOTER_PX)
    span_mm = (float(np.ptp(x_mm)), float(z_mm.max() - z_mm.min()))
    pixel_mm = max(span_mm[0] / room[0], span_mm[1] / room[1])
    width, height = int(span_mm[0] / pixel_mm), int(span_mm[1] / pixel_mm)
    left = (columns - width) // 2
    region = Box(left=left, top=BANNER_PX, right=left + width, bottom=BANNER_PX + height)
    down, across = np.mgrid[0:height, 0:width]  # (height, width)
    sample, line = _beam_of(
        probe,
        (across + 0.5) * pixel_mm + float(x_mm.min()),
        (down + 0.5) * pixel_mm + float(z_mm.min()),
    )
    inside = (sample >= 0) & (sample <= SAMPLES - 1) & (line >= 0) & (line <= LINES - 1)
    return Field(
        rows=rows,
        columns=columns,
        region=region,
        pixel_mm=pixel_mm,
        x=(x_mm / probe.depth_mm).astype(np.float32),
        z=(z_mm / probe.depth_mm).astype(np.float32),
        pixels=((down + region.top) * columns + across + region.left)[inside],
        sample=sample[inside].astype(np.float32),
        line=line[inside].astype(np.float32),
    )


def convert(field: Field, beams: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scan-convert grey values, (SAMPLES, LINES) 0 to 255, to a picture uint8 (R, C)."""
    i = np.minimum(field.sample.astype(np.int64), SAMPLES - 2)
    j = np.minimum(field.line.astype(np.int64), LINES - 2)
    down, across = field.sample - i, field.line - j
    flat, corner = beams.ravel(), i * LINES + j
    above = flat[corner] * (1 - across) + flat[corner + 1] * across
    below = flat[corner + LINES] * (1 - across) + flat[corner + LINES + 1] * across
    picture = np.zeros(field.rows * field.columns, np.uint8)
    picture[field.pixels] = above * (1 - down) + below * down
    return picture.reshape(field.rows, field.columns)


def convert_labels(field: Field, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scan-convert a label map (SAMPLES, LINES) by the nearest sample to uint8 (R, C)."""
    nearest = np.rint(field.sample).astype(np.int64) * LINES + np.rint(field.line).astype(np.int64)
    picture = np.zeros(field.rows * field.columns, np.uint8)
    picture[field.pixels] = labels.ravel()[nearest]
    return picture.reshape(field.rows, field.columns)


def _beams_mm(probe: Probe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    depth = np.linspace(0.0, probe.depth_mm, SAMPLES)[:, None]
    if probe.geometry is Geometry.LINEAR:
        across = np.linspace(-probe.half_width_mm, probe.half_width_mm, LINES)[None, :]
        return np.broadcast_to(across, (SAMPLES, LINES)), np.broadcast_to(depth, (SAMPLES, LINES))
    half = np.deg2rad(probe.half_angle_deg)
    angle = np.linspace(-half, half, LINES)[None, :]
    along = probe.radius_mm + depth
    return along * np.sin(angle), along * np.cos(angle) - probe.radius_mm


def _beam_of(
    probe: Probe, x_mm: NDArray[np.float64], z_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if probe.geometry is Geometry.LINEAR:
        depth, across = z_mm, x_mm / probe.half_width_mm
    else:
        depth = np.hypot(x_mm, z_mm + probe.radius_mm) - probe.radius_mm
        angle = np.arctan2(x_mm, z_mm + probe.radius_mm)
        across = angle / np.deg2rad(probe.half_angle_deg)
    return depth / probe.depth_mm * (SAMPLES - 1), (across + 1) / 2 * (LINES - 1)
