"""Where the encoder's first weights come from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import ConfigError, StoreError
from models import encoders
from models.encoders import Encoder
from training import runs
from training.config import EncoderName, FinetuneSettings, PretrainSettings

_RANDOM: Final = "random"


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights that an encoder begins with."""

    #: for ``run.json`` and the bundle: what they are, and the beginning of the file's SHA-256
    text: str
    fill: Callable[[Encoder], None]

    @property
    def is_random(self) -> bool:
        """Whether it has learned from nothing."""
        return self.text == _RANDOM


def find(settings: FinetuneSettings, start: Path | None, imagenet: Path | None) -> Start:
    """Return the first weights, after a look at what can be known before the encoder is built.

    Parameters
    ----------
    settings : FinetuneSettings
        Which encoder is to be filled.
    start : Path, optional
        Folder of a finished pretraining, or its ``encoder.pt``.
    imagenet : Path, optional
        The published file of the same network.

    Raises
    ------
    ConfigError
        When both are given.
    StoreError
        When there is no such run, or it is of another encoder.
    """
    if start is not None and imagenet is not None:
        raise ConfigError("--start and --imagenet: an encoder starts from one of them; drop one")
    if imagenet is not None:
        text = f"{imagenet.name} {digest(imagenet)}"
        return Start(text=text, fill=lambda encoder: _fill_from_imagenet(encoder, imagenet))
    if start is None:
        return Start(text=_RANDOM, fill=lambda encoder: None)
    if start.is_dir():
        return _of_run(settings, start)
    text = f"{start.name} {digest(start)}"
    return Start(text=text, fill=lambda encoder: runs.load(start, encoder))


def published(folder: Path | None, encoder: str) -> Path | None:
    """Return the published file of an encoder, known by its name, of a folder; None without one."""
    # torchvision writes vgg16_bn, others efficientnet-lite0
    found = sorted(folder.glob(f"{encoder.replace('_', '[_-]')}*.pth")) if folder else []
    return found[0] if found else None


def unpublished(encoder: str) -> str:
    """Return what to say where there is no such file."""
    if encoder == EncoderName.SMALL:
        return (
            f"no ImageNet weights: nobody publishes any of the encoder {encoder!s}; take resnet18"
        )
    return f"no ImageNet weights: give --imagenet FOLDER with the published {encoder}-*.pth"


def needed(folder: Path | None, encoder: str) -> Path:
    """Return the published file of an encoder, as `published`.

    Raises
    ------
    StoreError
        When there is none.
    """
    found = published(folder, encoder)
    if found is None:
        raise StoreError(unpublished(encoder))
    return found


def digest(path: Path) -> str:
    """Return the beginning of a file's SHA-256.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as exc:
        raise StoreError(
            f"{path}: cannot be read ({exc.strerror}); name a file that is there, or train "
            "that run again"
        ) from None


def _of_run(settings: FinetuneSettings, folder: Path) -> Start:
    info = runs.read(folder)
    origin = info.settings
    if not isinstance(origin, PretrainSettings):
        raise StoreError(
            f"{folder}: a run of fine-tuning; name one of 'train pretrain', or give no --start"
        )
    if info.finished_at is None:
        raise StoreError(f"{folder}: not finished; give the same 'train pretrain' again to go on")
    ours = (settings.encoder, settings.encoder_width)
    if settings.encoder != origin.encoder or (
        settings.encoder == "small" and settings.encoder_width != origin.encoder_width
    ):
        raise StoreError(
            f"{folder}: pretrained the encoder {_shown(origin.encoder, origin.encoder_width)}, "
            f"not {_shown(*ours)}; give --encoder {origin.encoder}, or name another run"
        )
    weights = folder / runs.ENCODER
    text = (
        f"{origin.strategy.name} {origin.encoder} {origin.size} epochs={origin.epochs} "
        f"batch={origin.batch_size} seed={origin.seed} store={info.store_version} "
        f"{digest(weights)}"
    )
    return Start(text=text, fill=lambda encoder: runs.load(weights, encoder))


def _shown(encoder: str, width: int) -> str:
    return f"{encoder} of width {width}" if encoder == "small" else encoder


def _fill_from_imagenet(encoder: Encoder, path: Path) -> None:
    try:
        encoders.load_imagenet(encoder, path)
    except ValueError as exc:
        raise StoreError(f"--imagenet {exc}") from None
