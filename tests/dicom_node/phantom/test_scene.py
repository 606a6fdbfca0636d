import numpy as np
import pytest

from dicom_node.errors import PermanentError
from dicom_node.phantom.probes import PROBES
from dicom_node.phantom.scene import Scene, SceneSpec, render
from tests.support.phantoms import interface_columns

SEEDS = range(12)
#: the gap at the interface is at most 0.018 depths, 7.1 pixels of 394, and it may lie obliquely
REACH_PX = 11


def scenes(quality: int, probe: str = "SC6-1") -> list[Scene]:
    return [
        render(SceneSpec(quality=quality, probe=probe), np.random.default_rng(seed))
        for seed in SEEDS
    ]


def interface_widths(quality: int) -> list[int]:
    return [len(interface_columns(s.label_maps[0], REACH_PX)) for s in scenes(quality)]


def organs(scene: Scene) -> set[int]:
    return set(np.unique(scene.label_maps).tolist()) - {0}


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = (
        render(SceneSpec(quality=4, frames=2), np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.label_maps, again.label_maps)
    assert not np.array_equal(first.frames, other.frames)


def test_quality_0_shows_no_organ() -> None:
    assert all(organs(scene) == set() for scene in scenes(0))


def test_quality_1_shows_exactly_one_organ_and_both_kinds_occur() -> None:
    shown = [organs(scene) for scene in scenes(1)]
    assert all(len(each) == 1 for each in shown)
    assert {1} in shown
    assert {2} in shown


@pytest.mark.parametrize("quality", [2, 3, 4])
def test_qualities_from_2_on_show_both_organs(quality: int) -> None:
    assert all(organs(scene) == {1, 2} for scene in scenes(quality))


def test_the_interface_is_absent_at_2_partial_at_3_and_whole_at_4() -> None:
    none, part, whole = (interface_widths(quality) for quality in (2, 3, 4))
    assert none == [0] * len(SEEDS)
    # same seed, same organs: what differs is the rib's shadow
    ratios = [p / w for p, w in zip(part, whole, strict=True)]
    assert all(0 < ratio < 0.8 for ratio in ratios), ratios
    assert min(whole) > 90


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_fills_its_region_and_nothing_but_the_banner_lies_outside(probe: str) -> None:
    scene = render(SceneSpec(quality=4, probe=probe), np.random.default_rng(3))
    inside = np.zeros(scene.frames.shape[1:], bool)
    inside[scene.field.region.slices] = True
    assert (scene.frames[0][inside] > 20).mean() > 0.3
    assert not scene.label_maps[0][~inside].any()
    assert scene.frames[0][:35].max() > 200  # the burned-in name


def test_liver_is_brighter_than_shadow_and_speckled() -> None:
    scene = render(SceneSpec(quality=4), np.random.default_rng(1))
    liver = scene.frames[0][scene.label_maps[0] == 1].astype(float)
    assert 50 < np.median(liver) < 140
    assert liver.std() > 8


def test_a_cine_moves_slowly() -> None:
    scene = render(SceneSpec(quality=4, frames=8), np.random.default_rng(2))
    changed = [
        (a != b).mean() for a, b in zip(scene.label_maps[:-1], scene.label_maps[1:], strict=True)
    ]
    assert 0 < max(changed) < 0.05
    grey = scene.frames.astype(float)
    assert 0.5 < np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] < 1


def test_the_field_of_a_probe_is_laid_out_once() -> None:
    first, second = (
        render(SceneSpec(quality=4, frames=2), np.random.default_rng(seed)) for seed in (0, 1)
    )
    assert first.field is second.field


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (SceneSpec(quality=5), "quality 5"),
        (SceneSpec(quality=1, probe="X9"), "'X9'"),
        (SceneSpec(quality=1, frames=0), "0 frames"),
    ],
)
def test_an_impossible_spec_says_its_value(spec: SceneSpec, word: str) -> None:
    with pytest.raises(PermanentError, match=word):
        render(spec, np.random.default_rng(0))
