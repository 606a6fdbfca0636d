"""Fine-tune one network on labelled frames of the store."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from dicom_node.errors import StoreError
from dicom_node.records import Task
from dicom_node.store import StoredFrame, WeakLabelStore
from models.encoders import SmallEncoder
from models.quality import QualityNetwork
from models.unet import UNet
from training import checkpoint, losses, metrics
from training.config import FinetuneSettings
from training.datasets import LabelledFrames
from training.loop import Batches, Epoch, Objective, evaluate, train

#: Organs in the order of their labels in masks, from 1.
ORGANS = ("liver", "kidney")
#: Frames that export compares torch and onnxruntime on.
SAMPLE_FRAMES = 16
_LABEL_NAMES = MappingProxyType({Task.SEGMENTATION: "mask", Task.QUALITY: "quality score"})


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A trained network and what is known of it."""

    #: on the CPU, in evaluation mode, with the best weights; has ``probabilities``
    network: UNet | QualityNetwork
    #: ``validation_...`` and ``test_...``, 0 to 1 but for the absolute error
    metrics: dict[str, float]
    store_version: str
    training_frames: int
    #: real frames of the validation split, uint8 (n, 1, H, W), n >= 1
    sample: NDArray[np.uint8]


def finetune(
    settings: FinetuneSettings, fabric: Fabric, after_epoch: Callable[[Epoch], None]
) -> Finetuned:
    """Train on the split ``train``, choose the epoch on ``validation``, report on it and ``test``.

    Parameters
    ----------
    settings : FinetuneSettings
        What to do.
    fabric : Fabric
        Where to do it; launched.
    after_epoch : callable
        Told of each epoch; for progress.

    Raises
    ------
    StoreError
        When the store's labels cannot teach this task; says what to label.
    """
    with open_store(settings) as store:
        splits = {
            split: store.frames(labelled=settings.task, split=split)
            for split in ("train", "validation", "test")
        }
        check_frames(store, settings.task, splits)
        version = store.version()
        fabric.seed_everything(settings.seed, workers=True, verbose=False)
        network, objective = build(settings)
        loaders = {
            split: _batches(store, frames, settings, training=split == "train")
            for split, frames in splits.items()
            if frames
        }
        best = train(
            fabric,
            network,
            objective,
            (loaders["train"], loaders["validation"]),
            settings.schedule,
            after_epoch,
        )
        network.load_state_dict(best)
        scores = _scores(fabric, network, objective, loaders)
        sample = _sample(loaders["validation"])
    return Finetuned(
        network=network.cpu().eval(),
        metrics=scores,
        store_version=version,
        training_frames=len(splits["train"]),
        sample=sample,
    )


def open_store(settings: FinetuneSettings) -> WeakLabelStore:
    """Open the store, which must be there already.

    Raises
    ------
    StoreError
        When the folder holds no store.
    """
    if not (settings.store / "catalogue.db").is_file():
        raise StoreError(
            f"{settings.store}: no weak-label store; name the folder that the node harvests into"
        )
    return WeakLabelStore(settings.store)


def build(settings: FinetuneSettings) -> tuple[UNet | QualityNetwork, Objective]:
    """Return the untrained (or started) network of a task, and what is wanted of it."""
    encoder = SmallEncoder(settings.encoder_width)
    network: UNet | QualityNetwork
    if settings.task is Task.SEGMENTATION:
        network = UNet(encoder, classes=1 + len(ORGANS))
        objective = Objective(
            loss=losses.segmentation_loss,
            measure=metrics.dice,
            measures=tuple(f"dice_{organ}" for organ in ORGANS),
        )
    else:
        network = QualityNetwork(encoder)
        objective = Objective(
            loss=partial(losses.ordinal_loss, positive_weight=settings.positive_weight),
            measure=metrics.quality,
            measures=("accuracy", "absolute_error"),
        )
    if settings.start is not None:
        checkpoint.load(settings.start, network)
    return network, objective


def check_frames(store: WeakLabelStore, task: Task, splits: dict[str, list[StoredFrame]]) -> None:
    """Refuse labels that cannot teach, before time is spent.

    Raises
    ------
    StoreError
        Says what is missing and how to get it.
    """
    what = _LABEL_NAMES[task]
    if not any(splits.values()):
        frames = len(store.frames())
        raise StoreError(
            f"the store holds {frames} frames and none has a {what}; "
            + ("import labels first" if frames else "harvest studies first, then import labels")
        )
    patients = {frame.patient for frames in splits.values() for frame in frames}
    for split in ("train", "validation"):
        if not splits[split]:
            raise StoreError(
                f"{len(patients)} patient(s) have frames with a {what} and none of them falls into "
                f"the split {split!r}; label frames of more patients (10 or more are safe)"
            )
    _check_classes(store, task, splits["train"])


def _check_classes(store: WeakLabelStore, task: Task, frames: list[StoredFrame]) -> None:
    if task is Task.QUALITY:
        scores = {frame.quality for frame in frames}
        if len(scores) == 1:
            raise StoreError(
                f"all {len(frames)} training frames have the quality score {scores.pop()}; "
                "label frames of other scores too"
            )
        return
    missing = set(range(1, 1 + len(ORGANS)))
    for frame in frames:
        missing -= set(np.unique(store.mask(frame.frame_id)).tolist())
        if not missing:
            return
    names = " and ".join(f"{ORGANS[value - 1]} ({value})" for value in sorted(missing))
    raise StoreError(f"no mask of a training patient shows {names}; label frames that do")


def _batches(
    store: WeakLabelStore, frames: list[StoredFrame], settings: FinetuneSettings, *, training: bool
) -> Batches:
    dataset = LabelledFrames(
        store,
        frames,
        settings.task,
        (settings.height, settings.width),
        labels=len(ORGANS),
        seed=settings.seed if training else None,
    )
    return DataLoader(
        dataset,
        batch_size=settings.batch_size,
        shuffle=training,
        # batch normalisation learns nothing from a last batch of one
        drop_last=training and len(dataset) > settings.batch_size,
        num_workers=settings.workers,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def _scores(
    fabric: Fabric, network: nn.Module, objective: Objective, loaders: dict[str, Batches]
) -> dict[str, float]:
    """Return the finite measures of validation and test; the mean Dice is that of the organs."""
    found: dict[str, float] = {}
    model = fabric.setup_module(network)
    for split in loaders.keys() - {"train"}:
        batches = cast(Batches, fabric.setup_dataloaders(loaders[split]))
        scores = evaluate(fabric, model, objective, batches)
        dices = [value for name, value in scores.items() if name.startswith("dice_")]
        if dices:
            scores["dice"] = float(np.mean(dices))
        found |= {f"{split}_{name}": value for name, value in scores.items()}
    return {name: round(found[name], 6) for name in sorted(found) if np.isfinite(found[name])}


def _sample(batches: Batches) -> NDArray[np.uint8]:
    dataset = batches.dataset
    frames = [dataset[n][0] for n in range(min(SAMPLE_FRAMES, len(dataset)))]  # type: ignore[arg-type]
    return torch.stack(frames).numpy()  # (n, 1, H, W)
