"""Fill the hole in the middle of a frame: the papers' CE, and CE+DCM where D sees the tags.

F is a context encoder, D a discriminator of patches with the tags projected in (first version, eq.
1 to 3; second version, eq. 1 to 4). They take turns in every step, D first, both on the same filled
holes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from models import encoders
from models.context_encoder import ContextEncoder
from models.discriminator import ProjectionDiscriminator
from models.heads import ClassHead
from training.adversarial import LOSSES
from training.config import PretrainSettings, Settings
from training.loop import Batch, Networks, Player
from training.recipes.reading import checked
from training.tags import TAG_BITS, has_tags, tag_accuracy, tag_loss, tag_losses

Weight = Annotated[float, Field(ge=0)]
D: Final = "discriminator"
F: Final = "filler"


class Options(Settings):
    """How the hole is judged."""

    #: of the discriminator; ``none`` leaves it out
    adversarial: Literal["none", "hinge", "log"] = "hinge"
    #: whether the discriminator sees the tags (CE+DCM)
    tags: bool = True
    #: of the squared difference to what was there
    reconstruction_weight: Weight = 0.99
    #: of what fools the discriminator
    adversarial_weight: Weight = 0.01
    #: of predicting the tags from the frame with its hole; not in the papers
    tag_weight: Weight = 0.0


class Filler(nn.Module):
    """F: fills the hole and, where a head is given, names the tags.

    Parameters
    ----------
    context : ContextEncoder
    head : ClassHead, optional
        From the deepest features to `TAG_BITS` logits.
    """

    def __init__(self, context: ContextEncoder, head: ClassHead | None) -> None:
        super().__init__()
        self.context, self.head = context, head

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Map uint8 (N, 1, H, W) to what was filled in, what was there, and logits of the tags.

        The first two are (N, 1, H/2, W/2), the third is (N, 10) or None.
        """
        features, target = self.context.look(frames)
        logits = None if self.head is None else self.head(features)
        return self.context.decoder(features), target, logits


class ContextEncoding:
    """The pretext: F learns to fill the hole, D to tell filled holes from real ones.

    Parameters
    ----------
    options : Options
    filler : Filler
    discriminator : ProjectionDiscriminator, optional
        None where there is no adversary.
    learning_rates : tuple of float
        Of F and D, both Adam with beta (0.9, 0.999).
    """

    #: a frame without a tag is painted like any other
    tags_alone = False

    def __init__(
        self,
        options: Options,
        filler: Filler,
        discriminator: ProjectionDiscriminator | None,
        learning_rates: tuple[float, float],
    ) -> None:
        self._options = options
        self.encoder = cast(nn.Module, filler.context.encoder)
        needs_tags = options.tags or options.tag_weight > 0
        self.targets: tuple[str, ...] = ("tags",) if needs_tags else ()
        self.players: dict[str, Player] = {}
        networks = (D, discriminator, learning_rates[1]), (F, filler, learning_rates[0])
        for name, network, learning_rate in networks:
            if network is not None:
                optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
                self.players[name] = Player(network, optimizer)

    @property
    def measures(self) -> tuple[str, ...]:
        """L_F and its parts."""
        adversarial = ("adversarial", "real_score", "filled_score") if D in self.players else ()
        tags = ("tags", "tag_accuracy") if self._options.tag_weight else ()
        return ("loss", "reconstruction", *adversarial, *tags)

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return L_D in D's turn, and L_F with its parts in F's turn."""
        if turn == D:
            return self._loss_of_d(networks, batch)
        patch, target, logits = self._filled(networks, batch)
        parts = {"reconstruction": (patch - target).square().mean()}
        loss = self._options.reconstruction_weight * parts["reconstruction"]
        if D in self.players:
            _, _, fooled = LOSSES[self._options.adversarial]
            judge = self.players[D]
            with _unlearning(judge.network):
                _, filled = _scores(judge.judge, target, patch, self._y(batch))
            parts["adversarial"] = fooled(filled).mean()
            loss = loss + self._options.adversarial_weight * parts["adversarial"]
        if logits is not None:
            parts["tags"] = tag_loss(logits, batch["tags"])
            loss = loss + self._options.tag_weight * parts["tags"]
        return parts | {"loss": loss}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return L_F and its parts of each frame, (N, M)."""
        patch, target, logits = networks[F](batch["frames"])
        reconstruction = (patch - target).square().mean(dim=(1, 2, 3))  # (N,)
        rows = [reconstruction]
        loss = self._options.reconstruction_weight * reconstruction
        if D in self.players:
            _, _, fooled = LOSSES[self._options.adversarial]
            real, filled = _scores(networks[D], target, patch, self._y(batch))
            loss = loss + self._options.adversarial_weight * fooled(filled)
            rows += [fooled(filled), real, filled]
        if logits is not None:
            y = batch["tags"]
            tags = tag_losses(logits, y)
            loss = loss + self._options.tag_weight * tags
            rows += [tags.masked_fill(~has_tags(y), torch.nan), tag_accuracy(logits, y)]
        return torch.stack([loss, *rows], dim=1)

    def _loss_of_d(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        on_real, on_fake, _ = LOSSES[self._options.adversarial]
        patch, target, _ = self._filled(networks, batch)
        real, filled = _scores(networks[D], target, patch.detach(), self._y(batch))
        return {
            "loss": on_real(real).mean() + on_fake(filled).mean(),
            "real_score": real.mean(),
            "filled_score": filled.mean(),
        }

    def _filled(self, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Fill the holes of a batch, once for both turns."""
        if "patch" not in batch:
            patch, target, logits = networks[F](batch["frames"])
            batch |= {"patch": patch, "target": target}
            if logits is not None:
                batch["logits"] = logits
        return batch["patch"], batch["target"], batch.get("logits")

    def _y(self, batch: Batch) -> Tensor | None:
        return batch["tags"] if self._options.tags else None


def _scores(
    discriminator: Callable[..., Tensor], target: Tensor, patch: Tensor, y: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return D of real patches and of filled holes, (N,) each.

    Both go in together: normalised apart, a blurred hole and a sharp patch would look alike.
    """
    twice = None if y is None else torch.cat((y, y))
    scores = discriminator(torch.cat((target, patch)), twice).float()  # (2N,)
    return scores[: len(target)], scores[len(target) :]


@contextmanager
def _unlearning(network: nn.Module) -> Iterator[None]:
    """Let gradients through a network, and none into it."""
    network.requires_grad_(False)
    yield
    network.requires_grad_(True)


def build(settings: PretrainSettings) -> ContextEncoding:
    """Return the pretext; its weights follow from torch's seed."""
    recipe = settings.strategy
    options = checked(recipe.options, Options, where=f"recipe {recipe.name}: options")
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    head = ClassHead(encoder.channels[-1], TAG_BITS) if options.tag_weight else None
    discriminator = ProjectionDiscriminator(TAG_BITS if options.tags else 0)
    return ContextEncoding(
        options,
        Filler(ContextEncoder(encoder), head),
        None if options.adversarial == "none" else discriminator,
        (settings.learning_rate, settings.discriminator_learning_rate),
    )
