from pathlib import Path

import pytest
import torch
from torch import nn

from dicom_node.errors import StoreError
from training import checkpoint


def test_weights_come_back_and_no_part_is_left(tmp_path: Path) -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    checkpoint.save(tmp_path / "w.pt", one.state_dict())
    checkpoint.load(tmp_path / "w.pt", other)
    assert torch.equal(one.weight, other.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 no zip"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(StoreError, match=r"w\.pt: no weights of this network"):
        checkpoint.load(tmp_path / "w.pt", nn.Linear(3, 2))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "w.pt", nn.Linear(3, 2).state_dict())
    with pytest.raises(StoreError, match="same task and encoder width"):
        checkpoint.load(tmp_path / "w.pt", nn.Linear(4, 2))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        checkpoint.load(tmp_path / "absent.pt", nn.Linear(3, 2))
