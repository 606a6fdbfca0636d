"""Run an iterator in a thread of its own, some items ahead of who asks for them."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")


class Ahead(Iterator[_Item], Generic[_Item]):
    """The items of a generator, of which some wait; close it, or use it up.

    Parameters
    ----------
    source : generator
        Runs in the thread. What it raises is raised here, after the items before it.
    most : int
        While the items that wait weigh less than this, another one is made.
    weight : callable, optional
        What an item weighs; 1 each unless said otherwise.
    """

    def __init__(
        self,
        source: Generator[_Item, None, None],
        most: int,
        weight: Callable[[_Item], int] = lambda _: 1,
    ) -> None:
        self._source, self._most, self._weight = source, most, weight
        self._changed = Condition()
        self._made: deque[tuple[_Item, int]] = deque()
        self._heap = 0
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    @property
    def waits(self) -> bool:
        """Whether an item is there."""
        return bool(self._made)

    @property
    def following(self) -> _Item | None:
        """The next item where it is there; it stays."""
        with self._changed:
            return self._made[0][0] if self._made else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._ended)
            if self._made:
                item, weight = self._made.popleft()
                self._heap -= weight
                self._changed.notify_all()
                return item
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Make no more items, and wait until the source is closed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._made.clear()

    def _run(self) -> None:
        try:
            while self._has_room():
                item = next(self._source)
                weight = self._weight(item)
                with self._changed:
                    self._made.append((item, weight))
                    self._heap += weight
                    self._changed.notify_all()
            self._source.close()
        except StopIteration:
            pass
        except BaseException as exc:  # noqa: BLE001 - raised again where the items are asked for
            self._error = exc
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._heap < self._most)
            return not self._stopped
