import torch

from models.encoders import SmallEncoder
from models.quality import QualityNetwork


def test_four_probabilities_a_frame() -> None:
    torch.manual_seed(0)
    network = QualityNetwork(SmallEncoder(4)).eval()
    answer = network.probabilities(torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8))
    assert answer.shape == (3, 4)
    assert ((answer > 0) & (answer < 1)).all()
