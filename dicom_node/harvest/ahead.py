"""Run an iterator in a thread of its own, some items ahead of who asks for them."""

from collections.abc import Generator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class _End:
    #: what the iterator raised
    error: BaseException | None = None


def ahead(source: Generator[_Item, None, None], most: int) -> Generator[_Item, None, None]:
    """Yield the items of `source`, of which at most `most` wait.

    Parameters
    ----------
    source : generator
        Runs in the thread, from the first item that is asked for. What it raises is raised here.
    most : int
        So many items are made before they are asked for.

    Yields
    ------
    Any
        Items of `source`, in order. Who closes this waits until `source` is closed.
    """
    room, stopped = Semaphore(most), Event()
    made: SimpleQueue[_Item | _End] = SimpleQueue()
    thread = Thread(target=_run, args=(source, room, stopped, made), name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        room.release()
        thread.join()


def _run(
    source: Generator[_Item, None, None],
    room: Semaphore,
    stopped: Event,
    made: "SimpleQueue[_Item | _End]",
) -> None:
    end = _End()
    try:
        while room.acquire() and not stopped.is_set():
            made.put(next(source))
        source.close()
    except StopIteration:
        pass
    except BaseException as exc:  # noqa: BLE001 - raised again where the items are asked for
        end = _End(exc)
    made.put(end)
