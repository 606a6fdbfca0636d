"""What lies in front of the probe: liver, kidney, the pouch between them, and what hides them.

The view quality is a ladder of what a reader can see of Morison's pouch, the hepatorenal interface:

======= ===================== ===================== ============================================
Quality Liver                 Kidney                Interface
======= ===================== ===================== ============================================
0       no                    no                    no: no contact, bowel gas, or other tissue
1       one of the two        the other one not     no
2       yes                   yes                   no: another plane, bowel or fat lies between
3       yes                   yes                   in part: a rib's shadow covers the rest
4       yes                   yes                   whole and clear
======= ===================== ===================== ============================================

Lengths and positions are in parts of the imaging depth, as in `dicom_node.phantom.field`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
#: What fills a view of quality 0.
Nothing = Literal["air", "gas", "tissue"]


@dataclass(frozen=True, kw_only=True)
class Ellipse:
    """An organ's outline: an ellipse whose rim waves a little."""

    x: float
    z: float
    long: float
    short: float
    #: of the long axis against x, radians
    angle: float
    #: phase and height (in parts of the radius) of the waves of the rim
    phase: float = 0.0
    wave: float = 0.0

    def distance(self, x: Array, z: Array) -> Array:
        """Return the distance of points from the rim, negative inside; exact to first order."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u = (x - self.x) * cos + (z - self.z) * sin
        v = (z - self.z) * cos - (x - self.x) * sin
        radius = np.hypot(u / self.long, v / self.short) + np.float32(1e-6)
        slope = np.hypot(u / self.long**2, v / self.short**2) + np.float32(1e-6)
        rim = radius - np.float32(1)
        if self.wave:
            turn = np.arctan2(v, u)
            waves = np.sin(2 * turn + self.phase) + np.sin(3 * turn - self.phase)
            rim = rim - np.float32(self.wave) * waves.astype(np.float32)
        return np.asarray(rim * radius / slope, np.float32)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One view of one patient, at rest."""

    liver: Ellipse | None
    kidney: Ellipse | None
    #: distance of the liver from the kidney's capsule
    gap: float
    #: thickness of the abdominal wall
    wall: float
    #: vessels of the liver
    vessels: tuple[Ellipse, ...]
    #: a dark mass in other tissue
    nodule: Ellipse | None
    #: part of the interface that ribs cover, 0 to 1
    covered: float
    nothing: Nothing | None = None


def draw_anatomy(quality: int, rng: np.random.Generator) -> Anatomy:
    """Draw a view of the given quality, 0 to 4."""
    liver = Ellipse(
        x=rng.uniform(-0.22, -0.12),
        z=rng.uniform(0.34, 0.40),
        long=rng.uniform(0.50, 0.58),
        short=rng.uniform(0.33, 0.39),
        angle=rng.uniform(-0.12, 0.12),
        phase=rng.uniform(0, 2 * np.pi),
        wave=0.02,
    )
    kidney = Ellipse(
        x=rng.uniform(0.08, 0.18),
        z=rng.uniform(0.54, 0.63),
        long=rng.uniform(0.29, 0.34),
        short=rng.uniform(0.13, 0.165),
        angle=rng.uniform(-0.55, -0.15),
        phase=rng.uniform(0, 2 * np.pi),
        wave=0.02,
    )
    only = rng.random()
    nothing = _nothing(rng) if quality == 0 else None
    return Anatomy(
        liver=liver if quality >= 2 or (quality == 1 and only < 0.5) else None,
        kidney=kidney if quality >= 2 or (quality == 1 and only >= 0.5) else None,
        gap=rng.uniform(0.075, 0.11) if quality == 2 else rng.uniform(0.012, 0.018),
        wall=rng.uniform(0.09, 0.14),
        vessels=_vessels(liver, rng),
        nodule=_nodule(rng) if nothing == "tissue" else None,
        covered=rng.uniform(0.4, 0.6) if quality == 3 else 0.0,
        nothing=nothing,
    )


def _vessels(liver: Ellipse, rng: np.random.Generator) -> tuple[Ellipse, ...]:
    lean = rng.uniform(-0.7, 0.5)
    return tuple(
        Ellipse(
            x=liver.x + rng.uniform(-0.30, 0.30),
            z=liver.z + rng.uniform(-0.16, 0.14),
            long=rng.uniform(0.02, 0.13),
            short=rng.uniform(0.010, 0.022),
            angle=lean + rng.uniform(-0.35, 0.35),
            phase=rng.uniform(0, 2 * np.pi),
            wave=0.06,
        )
        for _ in range(rng.integers(2, 6))
    )


def _nothing(rng: np.random.Generator) -> Nothing:
    kinds: tuple[Nothing, ...] = ("air", "gas", "tissue")
    return kinds[int(rng.integers(len(kinds)))]


def _nodule(rng: np.random.Generator) -> Ellipse:
    return Ellipse(
        x=rng.uniform(-0.2, 0.2),
        z=rng.uniform(0.3, 0.5),
        long=rng.uniform(0.07, 0.14),
        short=rng.uniform(0.05, 0.09),
        angle=rng.uniform(-0.4, 0.4),
        phase=rng.uniform(0, 2 * np.pi),
        wave=0.05,
    )
