import threading
from collections.abc import Generator

import pytest

from dicom_node.harvest.ahead import ahead


def test_items_come_in_order_and_from_another_thread() -> None:
    def source() -> Generator[tuple[int, bool], None, None]:
        for number in range(5):
            yield number, threading.current_thread() is threading.main_thread()

    assert list(ahead(source(), 2)) == [(number, False) for number in range(5)]


def test_no_more_items_are_made_than_may_wait() -> None:
    room = threading.Semaphore(0)
    made: list[int] = []

    def source() -> Generator[int, None, None]:
        for number in range(9):
            made.append(number)
            room.release()
            yield number

    items = ahead(source(), 2)
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

    items = ahead(source(), 3)
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

    items = ahead(source(), 1)
    next(items)
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
