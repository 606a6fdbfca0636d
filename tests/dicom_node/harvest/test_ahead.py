import threading
from collections.abc import Generator

import pytest

from dicom_node.harvest.ahead import Ahead


def test_items_come_in_order_and_from_another_thread() -> None:
    def source() -> Generator[tuple[int, bool], None, None]:
        for number in range(5):
            yield number, threading.current_thread() is threading.main_thread()

    assert list(Ahead(source(), 2)) == [(number, False) for number in range(5)]


def test_no_more_items_are_made_than_may_wait() -> None:
    room = threading.Semaphore(0)
    made: list[int] = []

    def source() -> Generator[int, None, None]:
        for number in range(9):
            made.append(number)
            room.release()
            yield number

    items = Ahead(source(), 2)
    assert next(items) == 0
    for _ in range(3):  # the first, and two that wait
        assert room.acquire(timeout=10)
    assert not room.acquire(timeout=0.2)
    assert made == [0, 1, 2]
    assert list(items) == list(range(1, 9))


def test_what_the_source_raises_is_raised_after_the_items_before_it() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise ZeroDivisionError

    items = Ahead(source(), 3)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_who_stops_early_leaves_a_source_that_is_closed() -> None:
    closed = threading.Event()

    def source() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = Ahead(source(), 1)
    next(items)
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_heavy_items_wait_in_smaller_number_and_who_asks_sees_that_one_waits() -> None:
    made: list[int] = []
    room = threading.Semaphore(0)

    def source() -> Generator[int, None, None]:
        for weight in (1, 7, 9, 1):
            made.append(weight)
            room.release()
            yield weight

    items = Ahead(source(), 8, weight=int)
    for _ in range(2):
        assert room.acquire(timeout=10)
    assert not room.acquire(timeout=0.2)  # 8 wait already
    assert items.waits
    assert [next(items), next(items)] == [1, 7]
    assert list(items) == [9, 1]
    assert not items.waits
