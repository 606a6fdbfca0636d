import torch

from models.heads import ORDINAL_BITS, ClassHead, OrdinalHead


def test_the_ordinal_head_gives_four_bits_and_drops_out_only_in_training() -> None:
    torch.manual_seed(0)
    head, features = OrdinalHead(5), torch.randn(2, 5, 4, 6)
    assert head(features).shape == (2, ORDINAL_BITS) == (2, 4)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_the_class_head_scores_the_mean_of_each_channel() -> None:
    torch.manual_seed(0)
    head, features = ClassHead(5, classes=3).requires_grad_(False), torch.randn(2, 5, 4, 6)
    logits = head(features)
    assert logits.shape == (2, 3)
    for frame in range(2):
        for label in range(3):
            expected = float(head.score.bias[label])
            for channel in range(5):
                mean = float(features[frame, channel].mean())
                expected += mean * float(head.score.weight[label, channel])
            assert abs(float(logits[frame, label]) - expected) < 1e-5
