"""Classification: what a frame shows, as exclusive classes or as independent tags."""

from torch import Tensor, nn

from models.encoders import Encoder
from models.heads import ClassHead
from models.layers import ZScore


class ClassNetwork(nn.Module):
    """Classifier from grey bytes to one logit a class.

    Parameters
    ----------
    encoder : Encoder
        Its weights may come from pretraining.
    classes : int
        Logits.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.normalise = ZScore()
        self.encoder = encoder
        self.head = ClassHead(encoder.channels[-1], classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to logits (N, classes)."""
        grey = self.normalise(frames)  # (N, 1, H, W)
        filled = grey.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        logits: Tensor = self.head(self.encoder(filled)[-1])
        return logits

    def probabilities(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to probabilities (N, classes) that sum to 1."""
        return self(frames).softmax(dim=1)  # type: ignore[no-any-return]
