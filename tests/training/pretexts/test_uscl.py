import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightly", reason="pip install --group train")

from dicom_node.errors import ConfigError, StoreError
from tests.support.clips import packed, settings
from tests.support.finetuning import with_columns
from training import pretexts
from training.clips import Pairs
from training.contrast import nt_xent
from training.loop import Batch, Networks
from training.pack import Pack
from training.pretexts.uscl import Uscl


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return packed(tmp_path_factory.mktemp("clips"))


def pretext(**options: float | bool | str) -> Uscl:
    torch.manual_seed(0)
    built = pretexts.build(settings("uscl", **options))
    assert isinstance(built, Uscl)
    return built


def drawn(task: Uscl, of: Pack, *, split: str = "train") -> Pairs:
    found = pretexts.batches(
        task,
        of,
        of.select(split=split),
        batch_size=4,
        seed=0,
        training=split == "train",
        rank=0,
        world=1,
        device=torch.device("cpu"),
    )
    assert isinstance(found, Pairs)
    return found


def networks(task: Uscl, *, training: bool = True) -> Networks:
    return {name: player.network.train(training) for name, player in task.players.items()}


def batch(*labelled: int, classes: int = 8) -> Batch:
    """Return four pairs, those named with the label of their number."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(4, classes)
    for place in labelled:
        labels[place, place] = 1
    return {"frames": torch.rand(8, 1, 64, 64, generator=generator) * 255, "labels": labels}


def cross_entropy(logits: torch.Tensor, place: int) -> float:
    values = logits.tolist()
    return -values[place] + math.log(sum(math.exp(value) for value in values))


@pytest.mark.parametrize(("compat", "terms"), [("paper", 1), ("code", 2)])
def test_the_loss_is_contrast_and_a_part_of_the_cross_entropy_of_what_is_labelled(
    compat: str, terms: int
) -> None:
    task, given = pretext(compat=compat), batch(1, 3)
    found = task.loss("network", networks(task, training=False), given)
    projected, logits = task.players["network"].network(given["frames"])
    contrast = nt_xent(projected[:4], projected[4:], 0.5, shared=False).mean().item()
    of_labelled = [cross_entropy(logits[row], row % 4) for row in (1, 3, 5, 7)]
    assert found["contrast"].item() == pytest.approx(contrast, rel=1e-5)
    assert found["cross_entropy"].item() == pytest.approx(sum(of_labelled) / 4, rel=1e-4)
    expected = contrast + 0.2 * terms * sum(of_labelled) / 4
    assert found["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_a_label_has_a_loss_and_reaches_the_classifier_with_nothing() -> None:
    task = pretext()
    found = task.loss("network", networks(task), batch())
    assert found["cross_entropy"].item() == 0
    assert found["loss"].item() == found["contrast"].item()
    found["loss"].backward()
    classifier = task.players["network"].network.classifier
    assert all(not weight.grad.any() for weight in classifier.parameters())
    assert any(weight.grad.any() for weight in task.encoder.parameters())


def test_measures_are_one_row_a_picture_and_nothing_where_there_is_no_label() -> None:
    task, given = pretext(), batch(2)
    rows = task.measure(networks(task, training=False), given)
    assert rows.shape == (8, len(task.measures)) == (8, 3)
    loss = task.loss("network", networks(task, training=False), given)
    assert rows[:, 0].mean().item() == pytest.approx(loss["contrast"].item(), rel=1e-5)
    labelled = torch.tensor([row % 4 == 2 for row in range(8)])
    assert torch.equal(rows[:, 1].isfinite(), labelled)
    assert torch.equal(rows[:, 2].isfinite(), labelled)
    nothing = {name: value[:0] for name, value in given.items()}
    assert task.measure(networks(task, training=False), nothing).shape == (0, 3)


def test_without_labels_there_is_no_classifier(known: Pack) -> None:
    task = pretext(labelled=0.0)
    assert task.players["network"].network.classifier is None
    assert task.measures == ("loss",)
    source = drawn(task, known)
    assert task.counts == {"clips": 6, "labelled_clips": 0}
    [given] = source.epoch(1)
    assert given["labels"].shape == (4, 0)
    assert set(task.loss("network", networks(task), given)) == {"contrast", "loss"}
    assert task.measure(networks(task, training=False), given).shape == (8, 1)


def test_without_contrast_the_labels_teach_and_choose() -> None:
    task, given = pretext(contrast_weight=0.0, label_weight=1.0), batch(0, 1, 2)
    found = task.loss("network", networks(task, training=False), given)
    assert found["loss"].item() == pytest.approx(found["cross_entropy"].item())
    rows = task.measure(networks(task, training=False), given)
    assert torch.equal(rows[:, 0].nan_to_num(), rows[:, 1].nan_to_num())


def test_a_share_of_the_training_clips_is_labelled_and_every_validation_clip(known: Pack) -> None:
    for share, labelled in ((0.1, 1), (0.5, 3), (1.0, 6)):
        task = pretext(labelled=share)
        assert drawn(task, known).labels.any(axis=1).sum() == labelled
        assert task.counts == {"clips": 6, "labelled_clips": labelled}
        assert drawn(task, known, split="validation").labels.any(axis=1).all()


def test_classes_of_readers_can_be_learned(known: Pack) -> None:
    of_class = np.where(known.rows.patient % 2, 2, 0).astype(np.int16)
    labelled = replace(
        with_columns(known, class_index=of_class, class_set=np.zeros_like(of_class)),
        class_sets={"lung": ("covid", "pneumonia", "regular")},
    )
    source = drawn(pretext(labels="lung"), labelled)
    assert source.labels.shape == (6, 3)
    assert set(source.labels.argmax(axis=1)) <= {0, 2}
    [given] = source.epoch(1)
    task = pretext(labels="lung")
    assert task.loss("network", networks(task), given)["cross_entropy"].item() > 0


def test_what_cannot_be_learned_is_refused_with_the_cure(known: Pack) -> None:
    with pytest.raises(ConfigError, match=r"labels: 'hip': take 'groups' or one of breast, lung"):
        pretext(labels="hip")
    with pytest.raises(
        StoreError, match=r"none of 6 training clips .* of 'lung': harvest or label"
    ):
        drawn(pretext(labels="lung"), known)
    with pytest.raises(StoreError, match="none of 4 validation clips"):
        drawn(pretext(labels="lung", contrast_weight=0.0), known, split="validation")
    drawn(pretext(labels="lung"), known, split="validation")  # contrast chooses the epoch
    with pytest.raises(ConfigError, match="nothing is learned"):
        pretext(contrast_weight=0.0, labelled=0.0)


def test_labels_that_are_all_the_same_are_refused_where_nothing_else_teaches(known: Pack) -> None:
    alike = with_columns(known, groups=np.full_like(known.rows.groups, known.rows.groups.max()))
    says = "bear the same of 'groups', so there is nothing to tell apart"
    with pytest.raises(StoreError, match=f"all 6 training clips whose label is used {says}"):
        drawn(pretext(contrast_weight=0.0), alike)
    # a small share leaves one label of both
    with pytest.raises(StoreError, match=f"all 1 training clips whose label is used {says}"):
        drawn(pretext(contrast_weight=0.0, labelled=0.1), known)
    drawn(pretext(contrast_weight=0.0), known)
    drawn(pretext(), alike)  # contrast teaches
    drawn(pretext(contrast_weight=0.0), alike, split="validation")


def test_a_few_steps_bring_the_pictures_of_a_pair_together(tmp_path: Path) -> None:
    task = pretext()
    given = batch(0, 1, 2, 3)
    player = task.players["network"]
    first = task.loss("network", networks(task), given)["loss"].item()
    for _ in range(20):
        loss = task.loss("network", networks(task), given)["loss"]
        player.optimizer.zero_grad()
        loss.backward()
        player.optimizer.step()
    assert loss.item() < 0.8 * first
