"""Context encoder: paint the centre of a frame from what surrounds it.

The centre is half of the height and half of the width. The paper calls it square, which is true of
a square frame alone; four doublings of features at stride 32 give the same rectangle.
"""

import torch
from torch import Tensor, nn

from models.decoders import ContextDecoder
from models.encoders import Encoder
from models.layers import ZScore

#: What fills the hole: the mean of a z-scored frame.
HOLE = 0.0


def centre(size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the hole in a frame of `size` (H, W): H/2 by W/2 pixels."""
    height, width = size
    rows = slice(height // 4, height // 4 + height // 2)
    return rows, slice(width // 4, width // 4 + width // 2)


def cut(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the centre out of frames.

    Parameters
    ----------
    grey : Tensor of float32, shape (N, 1, H, W)
        Left as it is.

    Returns
    -------
    masked : Tensor of float32, shape (N, 1, H, W)
        With `HOLE` in the centre.
    target : Tensor of float32, shape (N, 1, H/2, W/2)
        What was there.
    """
    rows, columns = centre((grey.shape[-2], grey.shape[-1]))
    hole = torch.full_like(grey[..., rows, columns], HOLE)  # (N, 1, H/2, W/2)
    return paste(grey, hole), grey[..., rows, columns]


def paste(frames: Tensor, patch: Tensor) -> Tensor:
    """Return frames (N, 1, H, W) with `patch` (N, 1, H/2, W/2) as their centre."""
    rows, columns = centre((frames.shape[-2], frames.shape[-1]))
    pasted = frames.clone()
    pasted[..., rows, columns] = patch
    return pasted


class ContextEncoder(nn.Module):
    """F of the papers: encoder and decoder that paint the hole.

    Parameters
    ----------
    encoder : Encoder
        What pretraining is for.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.normalise = ZScore()
        self.encoder = encoder
        self.decoder = ContextDecoder(encoder.channels[-1])

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 (N, 1, H, W), H and W multiples of 32, to what was painted and what was there.

        Frames are z-scored whole, hole included: its mean and deviation are all that the encoder
        learns of it.

        Returns
        -------
        patch : Tensor of shape (N, 1, H/2, W/2)
            Painted, in units of the z-scored frame.
        target : Tensor of float32, shape (N, 1, H/2, W/2)
            The z-scored pixels of the hole.
        """
        features, target = self.look(frames)  # (N, C, H/32, W/32), (N, 1, H/2, W/2)
        patch: Tensor = self.decoder(features)
        return patch, target

    def look(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 (N, 1, H, W) to the deepest features of what is around the hole, and the hole.

        Returns
        -------
        features : Tensor of shape (N, channels[-1], H/32, W/32)
        target : Tensor of float32, shape (N, 1, H/2, W/2)
        """
        masked, target = cut(self.normalise(frames))  # (N, 1, H, W), (N, 1, H/2, W/2)
        filled = masked.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        return self.encoder(filled)[-1], target
