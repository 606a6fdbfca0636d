"""View quality: how well a frame shows what it should, 0 to 4."""

from torch import Tensor, nn

from models.encoders import Encoder
from models.heads import OrdinalHead
from models.layers import ZScore


class QualityNetwork(nn.Module):
    """Ordinal classifier from grey bytes to four ordinal bits.

    Parameters
    ----------
    encoder : Encoder
        Its weights may come from pretraining.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.normalise = ZScore()
        self.encoder = encoder
        self.head = OrdinalHead(encoder.channels[-1])

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to the logits of score > 0 ... score > 3, (N, 4)."""
        grey = self.normalise(frames)  # (N, 1, H, W)
        filled = grey.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        logits: Tensor = self.head(self.encoder(filled)[-1])
        return logits

    def probabilities(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to P(score > 0) ... P(score > 3), float32 (N, 4)."""
        return self(frames).sigmoid()  # type: ignore[no-any-return]
