import pytest
import torch

from dicom_node.errors import StoreError
from training.memory import advice, largest_batch, room, set_aside


def room_for(frames: int, tried: list[int]):  # type: ignore[no-untyped-def]
    """Return a step on a device with room for so many frames."""

    def step(size: int) -> None:
        tried.append(size)
        if size > frames:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    return step


@pytest.mark.parametrize(
    ("room", "tried", "found", "steps"),
    [(5, 32, 4, [16, 8, 4]), (40, 32, 16, [16]), (1, 32, None, [16, 8, 4, 2]), (9, 3, None, [])],
)
def test_halves_are_tried_until_one_fits(
    room: int, tried: int, found: int | None, steps: list[int]
) -> None:
    seen: list[int] = []
    assert largest_batch(room_for(room, seen), tried) == found
    assert seen == steps


def test_memory_is_set_aside_for_splits_that_a_run_would_hold() -> None:
    device, free = torch.device("cpu"), [400]

    def quarter(_: torch.device) -> int:
        free.append(free[-1] - 90)
        return free[-1] // 4

    assert [len(taken) for taken in set_aside((70, 60, 50, 10), device, quarter)] == [70, 10]
    assert set_aside((1, 2), device) == []
    assert room(device) == 0


def test_what_goes_wrong_otherwise_is_not_taken_for_a_lack_of_memory() -> None:
    def step(size: int) -> None:
        raise ValueError(size)

    with pytest.raises(ValueError, match="8"):
        largest_batch(step, 16)


def test_the_advice_names_what_was_tried_and_what_fits() -> None:
    assert isinstance(advice(32, 8), StoreError)
    assert (
        str(advice(32, 8)) == "the GPU has no room for --batch-size 32; 8 fits: take --batch-size 8"
    )
    assert "smaller --height and --width" in str(advice(32, None))
