"""Contrast: from pictures to projections, and to classes where some are known."""

import torch
from torch import Tensor, nn

from models.encoders import Encoder
from models.layers import ZScore


class ContrastNetwork(nn.Module):
    """Encoder, projection head and, where there is one, a classifier.

    Parameters
    ----------
    encoder : Encoder
        What is kept.
    projection : nn.Module
        From pooled features, (N, C), to what is compared, (N, D).
    classifier : nn.Module, optional
        From pooled features to logits; from the projection with `of_projection`.
    of_projection : bool
        Where the classifier reads.
    apart : bool
        Pass the two halves of the pictures one after the other, so that batch normalisation sees
        each by itself.
    """

    def __init__(
        self,
        encoder: Encoder,
        projection: nn.Module,
        classifier: nn.Module | None = None,
        *,
        of_projection: bool = False,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = ZScore()
        self.encoder, self.projection, self.classifier = encoder, projection, classifier
        self._of_projection, self._apart = of_projection, apart

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (N, 1, H, W), 0 to 255, to projections (N, D) and logits (N, K), or None."""
        halves = pictures.tensor_split(2) if self._apart else (pictures,)
        pooled = torch.cat([self._pooled(half) for half in halves])  # (N, C)
        projected: Tensor = self.projection(pooled)  # (N, D)
        if self.classifier is None:
            return projected, None
        return projected, self.classifier(projected if self._of_projection else pooled)

    def _pooled(self, pictures: Tensor) -> Tensor:
        grey = self.normalise(pictures)  # (N, 1, H, W)
        filled = grey.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        deepest: Tensor = self.encoder(filled)[-1]  # (N, C, h, w)
        return deepest.mean(dim=(2, 3))


class MomentumNetwork(nn.Module):
    """A network that learns, one that follows it slowly, and a queue of what that one said.

    Parameters
    ----------
    query, key : ContrastNetwork
        Two of a kind; the second begins as the first and takes no gradient.
    features, length : int
        Numbers of a projection, and projections that the queue holds.
    """

    def __init__(
        self, query: ContrastNetwork, key: ContrastNetwork, *, features: int, length: int
    ) -> None:
        super().__init__()
        self.query, self.key = query, key.requires_grad_(requires_grad=False)
        self.key.load_state_dict(query.state_dict())
        # in the state of the network, so that a run that was killed goes on with it
        self.queue: Tensor
        self.place: Tensor
        drawn = nn.functional.normalize(torch.randn(length, features), dim=1)
        self.register_buffer("queue", drawn)  # (Q, D)
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Map the two halves of (2N, 1, H, W) to projections by `query` and by `key`, (N, D)."""
        first, second = pictures.tensor_split(2)
        with torch.no_grad():
            key, _ = self.key(second)
        query, _ = self.query(first)
        return query, key

    @torch.no_grad()
    def remember(self, keys: Tensor) -> None:
        """Put normalised projections, (N, D), in the place of the oldest."""
        length = len(self.queue)
        newest = keys[-length:].to(self.queue.dtype)
        places = (self.place + torch.arange(len(newest), device=keys.device)) % length
        self.queue[places] = newest
        self.place.copy_((self.place + len(newest)) % length)
