import numpy as np
import pytest
import torch

from dicom_node.store.volumes import REGIONS
from tests.support.slices import new_volume
from training.volumes.targets import COLUMNS, HEADS, known_mean, losses, rows_of


def _parts(count: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(count, size, requires_grad=True) for name, size in HEADS.items()}


def test_what_a_header_does_not_say_is_no_number() -> None:
    known = new_volume().labels
    unknown = new_volume(
        sequence=None, contrast=None, regions=frozenset(), regions_known=frozenset()
    ).labels
    rows = rows_of([known, unknown])
    assert rows.shape == (2, len(COLUMNS))
    assert rows[0, :3].tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(rows[1, [0, 2]]).all()
    regions = dict(zip(REGIONS, rows[0, 3:-1], strict=True))
    assert (regions["Lung"], regions["Brain"]) == (1.0, 0.0)
    assert np.isnan(regions["Liver"])
    assert np.isnan(rows[1, 3:-1]).all()
    assert rows[:, -1] == pytest.approx(np.log(5.0))


def test_the_unknown_has_no_loss_and_no_slope() -> None:
    unknown = new_volume(
        sequence=None, plane=None, contrast=None, regions=frozenset(), regions_known=frozenset()
    )
    targets = torch.from_numpy(rows_of([unknown.labels, new_volume().labels]))
    parts = _parts(2)
    found = losses(parts, targets)
    for name in ("sequence", "plane", "contrast", "regions"):
        assert found[name][0].isnan()
        assert found[name][1].isfinite()
        known_mean(found[name]).backward()
        slope = parts[name].grad
        assert slope is not None
        assert slope[0].abs().max() == 0
        assert slope[1].abs().max() > 0


def test_a_batch_that_knows_nothing_costs_nothing() -> None:
    values = torch.full((3,), torch.nan, requires_grad=True)
    mean = known_mean(values)
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert values.grad.abs().max() == 0
