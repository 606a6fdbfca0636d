"""Random views of a picture, for contrast: crop, flip, brightness and contrast.

As in the published code of USCL: a crop of 80 % to 100 % of the area, at most a quarter wider or
higher than the frame is, and a jitter of 0.8. Hue and saturation say nothing of grey pictures.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SMALLEST_AREA: Final = 0.8
#: width to height of a crop, against the frame's own
SLIMMEST, WIDEST = 0.8, 1.25
FLIP_PROBABILITY: Final = 0.5
JITTER: Final = 0.8
#: of a view, see `draw`
NUMBERS: Final = 7
_WHITE: Final = 255.0


def draw(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the views of some pictures.

    Parameters
    ----------
    count : int
        Number of pictures, N.
    rng : Generator
        Decides; the same state gives the same views.

    Returns
    -------
    ndarray of float32, shape (N, 7)
        Top, left, height and width of the crop, in parts of the picture; 1 to flip left to right;
        factors of brightness and of contrast.
    """
    area = rng.uniform(SMALLEST_AREA, 1, count)
    ratio = np.exp(rng.uniform(np.log(SLIMMEST), np.log(WIDEST), count))
    # what is wider or higher than the picture is cut to it
    height = np.minimum(np.sqrt(area / ratio), 1)
    width = np.minimum(np.sqrt(area * ratio), 1)
    top = rng.random(count) * (1 - height)
    left = rng.random(count) * (1 - width)
    flips = rng.random(count) < FLIP_PROBABILITY
    factors = rng.uniform(1 - JITTER, 1 + JITTER, (2, count))
    return np.stack((top, left, height, width, flips, *factors), axis=1).astype(np.float32)


def apply(pictures: Tensor, views: Tensor) -> Tensor:
    """Crop, flip, then change brightness and contrast; what leaves 0 to 255 is cut off.

    Parameters
    ----------
    pictures : Tensor, float32 (N, 1, H, W)
        0 to 255.
    views : Tensor of float32, shape (N, 7)
        Of `draw`, on the device of the pictures.

    Returns
    -------
    Tensor, float32 (N, 1, H, W)
    """
    if not len(pictures):
        return pictures  # torch makes no grid for them
    top, left, height, width, flip, brightness, contrast = views.unbind(dim=1)  # (N,) each
    none = torch.zeros_like(top)
    to_right = torch.stack((width * (1 - 2 * flip), none, 2 * left + width - 1), dim=1)
    down = torch.stack((none, height, 2 * top + height - 1), dim=1)
    shape = list(pictures.shape)
    grid = functional.affine_grid(torch.stack((to_right, down), dim=1), shape, align_corners=False)
    seen = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    lit = (seen * brightness[:, None, None, None]).clamp(0, _WHITE)
    mean = lit.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + contrast[:, None, None, None] * (lit - mean)).clamp(0, _WHITE)
