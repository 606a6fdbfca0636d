"""Heads: from features to the logits of a task."""

from torch import Tensor, nn
from torch.nn import functional

#: Ordinal bits of the view quality: score > 0, > 1, > 2, > 3.
ORDINAL_BITS = 4


class ClassHead(nn.Module):
    """Global average pooling and one linear layer.

    Parameters
    ----------
    inputs : int
        Channels of the encoder's coarsest features.
    classes : int
        Logits; of exclusive classes or of independent tags.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(inputs, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, `inputs`, h, w) to logits (N, `classes`)."""
        pooled = features.mean(dim=(2, 3))  # (N, inputs)
        logits: Tensor = self.score(pooled)
        return logits


class OrdinalHead(nn.Module):
    """1x1 convolution, dropout, global average pooling, fully connected layer, ordinal bits.

    The quality head of the weak-label papers; its width and dropout rate are not printed there and
    are this project's choice. A score s is the bits (s > 0, s > 1, s > 2, s > 3).

    Parameters
    ----------
    inputs : int
        Channels of the encoder's coarsest features.
    hidden : int
        Channels after the 1x1 convolution.
    dropout : float
        Part of the activations that training switches off.
    """

    def __init__(self, inputs: int, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, hidden, kernel_size=1)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden, ORDINAL_BITS)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, `inputs`, h, w) to the logits of the bits, (N, 4)."""
        hidden = self.dropout(functional.relu(self.squeeze(features)))  # (N, hidden, h, w)
        pooled = hidden.mean(dim=(2, 3))  # (N, hidden)
        logits: Tensor = self.score(pooled)
        return logits
