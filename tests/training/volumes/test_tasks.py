import torch
from torch import Tensor, nn

from training.config import VolumeSegmentSettings
from training.volumes.tasks import SegmentingVolumes


class Undecided(nn.Module):
    """Says of each voxel that it may be anything; what it is told stays in its answer's slope."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape))

    def forward(self, volumes: Tensor) -> Tensor:
        return self.logits


def test_a_lesion_of_a_thousandth_of_the_volume_is_heard_beside_all_else() -> None:
    mask = torch.zeros(1, 12, 48, 48, dtype=torch.int64)
    mask[:, 3:9, 10:30, 10:30] = 1
    mask[:, 5, 15:21, 15:20] = 2
    task = SegmentingVolumes(VolumeSegmentSettings(depth=10, width=2, shrink=4))
    network = Undecided(1, 3, 12, 48, 48)
    batch = {"frames": torch.zeros(1, 1, 12, 48, 48, dtype=torch.uint8), "mask": mask}
    task.loss("network", {"network": network}, batch)["loss"].backward()
    assert network.logits.grad is not None
    told = network.logits.grad.abs().sum(dim=1)
    assert 0.01 < float(told[mask == 2].sum() / told.sum()) < 0.1  # 0.002 where all voxels weigh 1
