"""Look at an image before anything of it is stored: its words, its facts, where the scan lies."""

from dataclasses import dataclass

from pydicom.dataset import FileDataset

from dicom_node.config import HarvestSettings
from dicom_node.errors import PixelError, UnreadableError
from dicom_node.harvest.counts import HarvestCount, Skip
from dicom_node.harvest.sampling import sampled
from dicom_node.harvest.scan_area import ScanArea, around, scan_area
from dicom_node.harvest.words import WANTED, Words, shows_phantom, words_of
from dicom_node.header import read_header
from dicom_node.pixels.facts import KEYWORDS, facts_of
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import ImageFacts, Instance
from dicom_node.sop_classes import ULTRASOUND_IMAGES


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that can be harvested."""

    facts: ImageFacts
    area: ScanArea
    #: frame numbers, ascending
    wanted: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of an instance."""

    instance: Instance
    #: None where its header is not readable
    words: Words | None = None
    #: or why there is nothing to harvest
    found: Picture | HarvestCount
    #: numbers of the frames that the store had at that moment, with their pictures
    known: frozenset[int] = frozenset()


def look_at(instance: Instance, *, sandbox: PixelSandbox, settings: HarvestSettings) -> Look:
    """Read the header of anything that was received."""
    is_ours = instance.sop_class_uid in ULTRASOUND_IMAGES
    if not is_ours or "US" not in settings.modalities:
        return _without(instance, Skip.NOT_WANTED if is_ours else Skip.NOT_ULTRASOUND)
    try:
        header = read_header(instance.path, [*WANTED, *KEYWORDS])
        if shows_phantom(header):
            return _without(instance, Skip.PHANTOM)
        words = words_of(header)
    except UnreadableError:
        return _without(instance, Skip.UNREADABLE)
    return _picture(instance, header, words, sandbox, settings)


def _picture(
    instance: Instance,
    header: FileDataset,
    words: Words,
    sandbox: PixelSandbox,
    settings: HarvestSettings,
) -> Look:
    try:
        facts = facts_of(header, size_bytes=instance.path.stat().st_size)
    except (UnreadableError, PixelError) as exc:
        is_image = isinstance(exc, UnreadableError)
        return _without(instance, Skip.UNREADABLE if is_image else Skip.NOT_AN_IMAGE, words=words)
    wanted = sampled(
        facts.number_of_frames,
        frame_time_s=words.frame_time_s,
        frames_per_s=settings.frames_per_s,
        most_frames=settings.max_frames_per_clip,
    )
    if settings.burned_in == "skip" and words.may_show_text:
        said = words.burned_in_annotation.upper() == "YES"
        why = Skip.BURNED_IN if said else Skip.BURNED_IN_NOT_SAID
        return _without(instance, why, len(wanted), words=words)
    area = _area(facts, instance, wanted[0], sandbox, settings)
    if isinstance(area, Skip):
        return _without(instance, area, len(wanted), words=words)
    return Look(
        instance=instance,
        words=words,
        found=Picture(facts=facts, area=area, wanted=tuple(wanted)),
    )


def _without(instance: Instance, why: Skip, count: int = 1, *, words: Words | None = None) -> Look:
    return Look(instance=instance, words=words, found=HarvestCount(skipped={why: count}))


def _area(
    facts: ImageFacts,
    instance: Instance,
    first: int,
    sandbox: PixelSandbox,
    settings: HarvestSettings,
) -> ScanArea | Skip:
    """Return where the scan lies: as the header says, or as it is seen if the site wants that."""
    if facts.region is not None:
        return around(facts.region, facts.overlaid)
    if settings.no_region == "skip":
        return Skip.NO_REGION
    try:
        [(_, frame)] = sandbox.frames(instance.path, [first])
    except PixelError:
        return Skip.UNDECODABLE
    return scan_area(frame) or Skip.NO_REGION
