"""A phantom's body in 3D: ellipsoids of tissue, in millimetres of the patient's axes.

x leads to the patient's left, y to the back, z to the head; z = 0 lies in the middle of the chest.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TISSUES: Final = (
    *("air", "fat", "soft", "bone", "white matter", "fluid", "lung", "blood"),
    *("liver", "kidney", "bowel", "lesion"),
)
#: Half-axes and centres, mm, drawn in this order: what comes later covers what came before.
_ORGANS: Final = (
    ("fat", (0, 0, -150), (170, 112, 420)),
    ("soft", (0, 0, -150), (155, 98, 410)),
    ("fat", (75, -120, 90), (50, 45, 50)),
    ("fat", (-75, -120, 90), (50, 45, 50)),
    ("soft", (0, 10, 260), (58, 58, 110)),
    ("soft", (0, -5, 400), (80, 102, 122)),
    ("bone", (0, -5, 410), (75, 96, 110)),
    ("white matter", (0, -5, 410), (68, 88, 102)),
    ("fluid", (18, 0, 415), (10, 35, 18)),
    ("fluid", (-18, 0, 415), (10, 35, 18)),
    # every part of the body has vessels: without them no contrast agent shows in it
    ("blood", (0, 72, 455), (8, 16, 40)),
    ("blood", (0, 76, 395), (46, 8, 9)),
    *(("blood", (x, 0, 255), (9, 9, 75)) for x in (-32, 32)),
    ("air", (0, 5, 250), (11, 11, 70)),
    ("lung", (80, 0, 80), (62, 80, 140)),
    ("lung", (-80, 0, 80), (62, 80, 140)),
    ("blood", (15, -30, 40), (48, 48, 60)),
    *(("blood", (x, 42, -90), (11, 11, 240)) for x in (-15, 15)),
    *(("blood", (x, -15, -405), (9, 9, 95)) for x in (-58, 58)),
    ("liver", (-65, -10, -110), (82, 78, 70)),
    ("kidney", (68, 48, -180), (28, 25, 52)),
    ("kidney", (-68, 48, -185), (28, 25, 52)),
    *(("bowel", (x, -35, z), (30, 28, 26)) for x in (-70, 0, 70) for z in (-240, -295)),
    ("bone", (105, 30, -410), (28, 60, 75)),
    ("bone", (-105, 30, -410), (28, 60, 75)),
    ("fluid", (0, -20, -430), (42, 36, 36)),
    ("bone", (0, 72, -60), (17, 17, 480)),
)
_LIVER: Final = next(organ for organ in _ORGANS if organ[0] == "liver")


@dataclass(frozen=True, kw_only=True)
class Body:
    """One phantom: an index into `TISSUES`, half-axes and a centre for each ellipsoid."""

    #: int64, (n,)
    tissues: NDArray[np.int64]
    #: float64, (n, 3)
    centres_mm: NDArray[np.float64]
    axes_mm: NDArray[np.float64]

    def tissue_at(
        self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Return the tissue of points, an index into `TISSUES`; the three broadcast."""
        found = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.uint8)
        for tissue, (cx, cy, cz), (rx, ry, rz) in zip(
            self.tissues, self.centres_mm, self.axes_mm, strict=True
        ):
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 <= 1
            found[inside] = tissue
        return found


def body(rng: np.random.Generator) -> Body:
    """Return a body: none is as another, and each has a lesion in its liver."""
    size = rng.uniform(0.9, 1.1, 3)
    centres = np.array([centre for _, centre, _ in _ORGANS], np.float64)
    axes = np.array([half for _, _, half in _ORGANS], np.float64)
    centres += rng.normal(0, 3, centres.shape)
    axes *= rng.uniform(0.92, 1.08, axes.shape)
    within = rng.uniform(-0.5, 0.5, 3) * np.array(_LIVER[2])
    centres = np.vstack([centres, np.array(_LIVER[1]) + within])
    axes = np.vstack([axes, rng.uniform(12, 28, 3)])
    names = [name for name, _, _ in _ORGANS] + ["lesion"]
    # length along the body stays: what a series covers is known by it
    size[2] = 1.0
    return Body(
        tissues=np.array([TISSUES.index(name) for name in names]),
        centres_mm=centres * size,
        axes_mm=axes * size,
    )
