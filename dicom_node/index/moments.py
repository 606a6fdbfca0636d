"""Times as the index stores them: microseconds since 1970 UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return an aware time as microseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Return microseconds as an aware time."""
    return _EPOCH + timedelta(microseconds=microseconds)
