"""Where the encoder's first weights come from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigError, StoreError
from models import encoders
from models.encoders import Encoder
from training import runs
from training.config import EncoderName, FinetuneSettings, PretrainSettings


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights that an encoder begins with."""

    #: for ``run.json`` and the bundle: what they are, and the beginning of the file's SHA-256
    text: str
    fill: Callable[[Encoder], None]


def find(settings: FinetuneSettings, start: Path | None, imagenet: Path | None) -> Start:
    """Return the first weights, after a look at what can be known before the encoder is built.

    Parameters
    ----------
    settings : FinetuneSettings
        Which encoder is to be filled.
    start : Path, optional
        Folder of a finished pretraining, or its ``encoder.pt``.
    imagenet : Path, optional
        torchvision's own file of the same network.

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
        text = f"{imagenet.name} {_digest(imagenet)}"
        return Start(text=text, fill=lambda encoder: _fill_from_imagenet(encoder, imagenet))
    if start is None:
        return Start(text="random", fill=lambda encoder: None)
    if start.is_dir():
        return _of_run(settings, start)
    text = f"{start.name} {_digest(start)}"
    return Start(text=text, fill=lambda encoder: runs.load(start, encoder))


def torchvisions(folder: Path | None, encoder: EncoderName) -> Path:
    """Return torchvision's file of an encoder.

    Parameters
    ----------
    folder : Path, optional
        Where such files lie.
    encoder : EncoderName
        ``resnet18-f37072fd.pth`` is one of ``resnet18``.

    Raises
    ------
    StoreError
        When there is none.
    """
    if encoder == EncoderName.SMALL:
        raise StoreError(
            f"no ImageNet weights: torchvision has none of the encoder {str(encoder)!r}; "
            "take resnet18"
        )
    found = sorted(folder.glob(f"{encoder}*.pth")) if folder else []
    if not found:
        raise StoreError(
            f"no ImageNet weights: give --imagenet FOLDER with torchvision's {encoder}-*.pth"
        )
    return found[0]


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
        f"{_digest(weights)}"
    )
    return Start(text=text, fill=lambda encoder: runs.load(weights, encoder))


def _shown(encoder: str, width: int) -> str:
    return f"{encoder} of width {width}" if encoder == "small" else encoder


def _fill_from_imagenet(encoder: Encoder, path: Path) -> None:
    try:
        encoders.load_imagenet(encoder, path)
    except ValueError as exc:
        raise StoreError(f"--imagenet {exc}") from None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read ({exc.strerror})") from None
