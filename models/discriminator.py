"""Discriminator with projection: whether a patch is real, and whether it goes with the tags."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from models.layers import draw_normal

_WIDTHS = (64, 128, 256, 512)
_SLOPE = 0.2
#: Spread of the first weights of the blocks, as in Pathak's discriminator.
_FIRST_STD = 0.02
#: Spread of the first weights of C and W. Sum pooling adds up the cells of the deepest features,
#: 96 for a patch of 128 x 192; with a wider spread D would start far out, where losses are flat.
_FIRST_SCORE_STD = 0.001


class ProjectionDiscriminator(nn.Module):
    """D(x, y) = C(D~(x)) + D~(x)^T W y, after Miyato and Koyama.

    D~ is four blocks of a 3x3 convolution of stride 2, batch normalisation and LeakyReLU of slope
    0.2, with 64, 128, 256 and 512 channels, and a global sum over rows and columns. C is linear
    with a bias, W linear without one: the columns of W embed the tags, several tags add up, and
    where y = 0 the projection vanishes. Weights of the blocks start from N(0, 0.02), those of C
    and W from N(0, 0.001), biases at 0.

    Parameters
    ----------
    tags : int
        Length of y; 0 for a discriminator without projection, which leaves y unread.
    widths : sequence of int, optional
        Channels of the blocks, the papers' when not given.
    """

    def __init__(self, tags: int = 0, *, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(_block(before, after) for before, after in itertools.pairwise((1, *widths)))
        )
        self.score = nn.Linear(widths[-1], 1)
        self.embed = nn.Linear(tags, widths[-1], bias=False) if tags else None
        draw_normal(self.blocks, _FIRST_STD)
        draw_normal(self.score, _FIRST_SCORE_STD)
        if self.embed is not None:
            draw_normal(self.embed, _FIRST_SCORE_STD)

    def forward(self, patch: Tensor, y: Tensor | None = None) -> Tensor:
        """Map patches (N, 1, h, w) and tags (N, tags), float32, to D(x, y), (N,).

        ``None`` for y is read as no tag known of any patch.
        """
        hidden = self.blocks(patch).sum(dim=(2, 3))  # D~(x), (N, C), C = 512 as in the papers
        plain: Tensor = self.score(hidden).squeeze(1)  # (N,)
        if self.embed is None or y is None:
            return plain
        fit: Tensor = (hidden * self.embed(y)).sum(dim=1)  # (N,)
        return plain + fit


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Map (N, `inputs`, h, w) to (N, `outputs`, h/2, w/2), rounded up."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )
