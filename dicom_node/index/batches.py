"""Long lists of values, in pieces that a statement takes."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
#: values of one IN clause, well under SQLite's limit
_BATCH: Final = 500


def batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the values in pieces."""
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
