"""Look at images and decode what the store lacks of them, ahead of who stores it.

One thread reads headers, one takes frames from the decoder process, which waits for neither.
"""

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final

from dicom_node.config import HarvestSettings
from dicom_node.errors import PixelError
from dicom_node.harvest.ahead import Ahead
from dicom_node.harvest.harvester import Frame
from dicom_node.harvest.looking import Look, Picture, look_at
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.pixels.sandbox import PixelSandbox, Wanted
from dicom_node.records import Instance
from dicom_node.store import WeakLabelStore

#: So much is decoded before it is stored: some eight pictures as most scanners make them. What is
#: no picture counts as a little one.
AHEAD_BYTES: Final = 6 * 2**20
LITTLE_BYTES: Final = 2**14
#: Headers that are read before their frames are decoded.
LOOKS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Over:
    """The end of an instance's frames."""

    fault: PixelError | None = None


#: Of each image: what was seen of it, then its frames, then their end.
Seen = Look | Frame | Over


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The way from files to frames that the store lacks; for one caller at a time."""

    sandbox: PixelSandbox
    store: WeakLabelStore
    key: PseudonymKey
    settings: HarvestSettings
    _sandbox_is_free: Lock = field(default_factory=Lock)

    def ahead(self, instances: Iterable[Instance]) -> Ahead[Seen]:
        """Return what is seen of images; close it, or use it up."""
        return Ahead(self._seen(instances), AHEAD_BYTES, _weight)

    def _seen(self, instances: Iterable[Instance]) -> Generator[Seen, None, None]:
        with closing(Ahead(self._looks(instances), LOOKS)) as looks:
            for look in looks:
                yield look
                over = Over()
                try:
                    with self._sandbox_is_free:
                        yield from self._frames(_missing(look), _missing(looks.following))
                except PixelError as exc:
                    over = Over(fault=exc)
                yield over

    def _looks(self, instances: Iterable[Instance]) -> Generator[Look, None, None]:
        for instance in instances:
            with self._for_looking():
                look = look_at(instance, sandbox=self.sandbox, settings=self.settings)
            if isinstance(look.found, Picture):
                clip = self.store.clip(self.key.token("instance", instance.sop_instance_uid))
                lost = self.store.lost(clip)
                there = frozenset(one.frame_number for one in clip if one.frame_id not in lost)
                look = replace(look, known=there)
            yield look

    def _for_looking(self) -> AbstractContextManager[object]:
        # where a scan lies is seen in a decoded frame then
        return nullcontext() if self.settings.no_region == "skip" else self._sandbox_is_free

    def _frames(self, missing: Wanted | None, then: Wanted | None) -> Iterable[Frame]:
        if missing is None:
            return ()
        # whoever looks for scans asks for other frames in between
        then = then if self.settings.no_region == "skip" else None
        return self.sandbox.frames(*missing, then=then)


def _missing(look: Look | None) -> Wanted | None:
    """Return the frames of an image that the store lacks, None when there are none."""
    if look is None or not isinstance(look.found, Picture):
        return None
    numbers = [number for number in look.found.wanted if number not in look.known]
    return (look.instance.path, numbers) if numbers else None


def _weight(item: Seen) -> int:
    return item[1].nbytes if isinstance(item, tuple) else LITTLE_BYTES
