"""When an archive is asked, and how much: an off-peak window, and rates on the average."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from dicom_node.archives import PaceSettings

#: The clock is looked at again after so long: it may be set, and summer time begins and ends.
_LOOK_S: Final = 60.0
_DAY: Final = timedelta(days=1)


def _local() -> datetime:
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time, as it passes here."""

    #: local time
    now: Callable[[], datetime] = _local
    monotonic_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Pace:
    """Waits where it has to, before each study.

    A study comes as fast as the archive gives it; the rates are kept by the pauses after it.

    Parameters
    ----------
    settings : PaceSettings
    clock : Clock
    tell : callable
        Told what is waited for, "" when it goes on.
    """

    def __init__(
        self,
        settings: PaceSettings,
        clock: Clock | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._tell = settings, tell
        self._clock = clock or Clock()
        self._began_s = self._not_before_s = self._clock.monotonic_s()

    def wait(self) -> None:
        """Return when the next study may be asked for."""
        self._sleep_until(self._not_before_s)
        told = False
        while (left_s := self._closed_s()) > 0:
            if not told:
                self._tell(f"waits for the window {self._settings.window}")
            told = True
            self._clock.sleep(min(left_s, _LOOK_S))
        if told:
            self._tell("")
        self._began_s = self._clock.monotonic_s()

    def spent(self, *, studies: int, instances: int) -> None:
        """Note what came since `wait` returned."""
        for count, per_minute in (
            (studies, self._settings.studies_per_minute),
            (instances, self._settings.instances_per_minute),
        ):
            if per_minute is not None:
                # the longer of the two pauses: both limits hold
                due_s = self._began_s + 60.0 * count / per_minute
                self._not_before_s = max(self._not_before_s, due_s)

    def pause(self, seconds: float, why: str) -> None:
        """Leave the archive alone for a while."""
        self._tell(why)
        self._sleep_until(self._clock.monotonic_s() + seconds)
        self._tell("")

    def _sleep_until(self, moment_s: float) -> None:
        while (left_s := moment_s - self._clock.monotonic_s()) > 0:
            self._clock.sleep(left_s)

    def _closed_s(self) -> float:
        """Return for how long the window stays closed, 0 while it is open."""
        if self._settings.window is None:
            return 0.0
        now = self._clock.now()
        begin, end = (
            now.replace(hour=int(text[:2]), minute=int(text[3:]), second=0, microsecond=0)
            for text in self._settings.window.split("-")
        )
        is_open = begin <= now < end if begin < end else now >= begin or now < end
        if is_open:
            return 0.0
        return ((begin if begin > now else begin + _DAY) - now).total_seconds()
