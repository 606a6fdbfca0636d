import numpy as np
import pytest
import torch
from torch import Tensor

from training.lesions import average_precision, targets_of, union


def mask() -> Tensor:
    """Two lesions of label 1 and one of label 2 beside the second of them, and a crumb."""
    found = torch.zeros(1, 32, 40, dtype=torch.int64)
    found[0, 2:8, 3:11] = 1
    found[0, 20:30, 20:30] = 1
    found[0, 20:30, 30:35] = 2
    found[0, 31, 0:2] = 1
    return found


def test_what_hangs_together_and_bears_one_value_is_a_lesion() -> None:
    [found] = targets_of(mask())
    assert found["labels"].tolist() == [1, 1, 2]
    boxes = found["boxes"].tolist()
    assert boxes == [[3, 2, 11, 8], [20, 20, 30, 30], [30, 20, 35, 30]]
    assert found["masks"].sum(dim=(1, 2)).tolist() == [48, 100, 50]


def test_a_mask_of_nothing_has_no_lesion() -> None:
    [found] = targets_of(torch.zeros(1, 32, 32, dtype=torch.int64))
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 32, 32)


def said(scores: list[float], shift: int = 0) -> dict[str, Tensor]:
    [wanted] = targets_of(mask())
    return {
        "boxes": wanted["boxes"] + shift,
        "labels": wanted["labels"],
        "scores": torch.tensor(scores),
        "masks": wanted["masks"][:, None].float().roll((shift, shift), dims=(2, 3)),
    }


def test_average_precision_is_1_where_all_is_found_and_0_where_all_is_beside() -> None:
    wanted = targets_of(mask())
    right = average_precision([said([0.9, 0.8, 0.7])], wanted)
    names = [f"{what}_{ap}" for what in ("box", "mask") for ap in ("ap", "ap50", "ap75")]
    assert right == pytest.approx(dict.fromkeys(names, 1))
    beside = average_precision([said([0.9, 0.8, 0.7], shift=12)], wanted)
    assert beside["mask_ap"] == 0
    # of overlaps from 0.5 on, some are missed by a shift of one pixel
    close = average_precision([said([0.9, 0.8, 0.7], shift=1)], wanted)
    assert 0 < close["mask_ap"] < close["mask_ap50"] == 1


def test_where_no_lesion_is_to_be_found_there_is_no_average_precision() -> None:
    nothing = targets_of(torch.zeros(1, 32, 40, dtype=torch.int64))
    found = average_precision([said([0.9, 0.8, 0.7])], nothing)
    assert len(found) == 6
    assert all(np.isnan(value) for value in found.values())


def test_a_union_shows_what_is_sure_enough() -> None:
    found = said([0.9, 0.2, 0.8])
    assert torch.equal(union(found, 0.5), (mask()[0] == 2) | (found["masks"][0, 0] > 0))
    none = {name: value[:0] for name, value in found.items()}
    assert not union(none, 0.5).any()
