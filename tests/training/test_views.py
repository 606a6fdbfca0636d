import numpy as np
import torch

from training import views


def picture(count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 32, 48, generator=generator) * 255


def view(**changes: float) -> torch.Tensor:
    known = {"top": 0, "left": 0, "height": 1, "width": 1, "flip": 0, "bright": 1, "contrast": 1}
    return torch.tensor([list((known | changes).values())], dtype=torch.float32)


def test_the_view_of_all_of_a_picture_is_the_picture() -> None:
    assert torch.allclose(views.apply(picture(), view()), picture(), atol=1e-2)


def test_a_view_can_be_flipped_left_to_right() -> None:
    seen = views.apply(picture(), view(flip=1))
    assert torch.allclose(seen, picture().flip(3), atol=1e-2)


def test_a_crop_fills_the_frame() -> None:
    steps = torch.zeros(1, 1, 32, 48)
    steps[:, :, 16:, 24:] = 200  # a quarter, at the lower right
    assert (
        views.apply(steps, view(top=0.5, left=0.5, height=0.5, width=0.5))[..., 1:, 1:] > 150
    ).all()
    assert (views.apply(steps, view(height=0.4, width=0.4)) == 0).all()


def test_brightness_and_contrast_are_factors_and_stay_grey_values() -> None:
    grey = picture() / 4
    assert torch.allclose(views.apply(grey, view(bright=1.5)), 1.5 * grey, atol=1e-2)
    dull = views.apply(grey, view(contrast=0.5))
    assert torch.allclose(dull, grey.mean() + 0.5 * (grey - grey.mean()), atol=1e-2)
    harsh = views.apply(picture(), view(bright=1.8, contrast=1.8))
    assert harsh.min() >= 0
    assert harsh.max() <= 255


def test_views_are_drawn_within_their_bounds_and_follow_from_the_generator() -> None:
    top, left, height, width, flip, *factors = views.draw(500, np.random.default_rng(0)).T
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    # cut to the frame, a crop may be a little smaller than what was drawn
    assert (height * width > 0.7).all()
    assert (height * width < 1).any()
    assert set(flip) == {0, 1}
    assert all(0.2 <= factor.min() < 0.4 and 1.6 < factor.max() <= 1.8 for factor in factors)
    again = views.draw(500, np.random.default_rng(0))
    assert np.array_equal(again, views.draw(500, np.random.default_rng(0)))
