"""U-Net: the organ that each pixel shows."""

from torch import Tensor, nn

from models.decoders import UNetDecoder
from models.encoders import Encoder
from models.layers import ZScore


class UNet(nn.Module):
    """Segmentation network from grey bytes to class logits.

    Five up-convolution blocks with skips, after TernausNet; see `UNetDecoder`.

    Parameters
    ----------
    encoder : Encoder
        Its weights may come from pretraining.
    classes : int
        Background included.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.normalise = ZScore()
        self.encoder = encoder
        self.decoder = UNetDecoder(encoder.channels, encoder.strides)
        self.head = nn.Conv2d(self.decoder.out_channels, classes, kernel_size=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to logits (N, classes, H, W); channel 0 is background.

        H and W are multiples of the deepest stride, 32.
        """
        grey = self.normalise(frames)  # (N, 1, H, W)
        filled = grey.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        decoded = self.decoder(self.encoder(filled))  # (N, out_channels, H, W)
        logits: Tensor = self.head(decoded)
        return logits

    def probabilities(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to probabilities (N, classes, H, W) that sum to 1 over classes."""
        return self(frames).softmax(dim=1)  # type: ignore[no-any-return]
