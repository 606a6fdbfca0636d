"""How much of what the volumes of a store hold, and what their headers did not say."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from dicom_node.store.split import SPLITS
from dicom_node.store.volumes import PLANES, REGIONS, SEQUENCES, StoredVolume

#: What a label is counted as that the header does not say.
UNKNOWN = "unknown"
Counts = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class VolumeInfo:
    """How much of what is in the store; all counts are volumes unless named."""

    volumes: int
    patients: int
    by_split: Counts
    #: of each label its values, and "unknown"
    by_sequence: Counts
    by_plane: Counts
    by_contrast: Counts
    #: of each region "shown", "not shown" and "unknown"
    by_region: Mapping[str, Counts]
    #: of the pictures
    size_bytes: int


def counted(found: Iterable[StoredVolume], size_bytes: int) -> VolumeInfo:
    """Count volumes by split and by label."""
    every = list(found)

    def by(names: Iterable[str], name_of: Callable[[StoredVolume], str | None]) -> Counts:
        counts = Counter(name_of(one) or UNKNOWN for one in every)
        return {name: counts[name] for name in names}

    return VolumeInfo(
        volumes=len(every),
        patients=len({one.patient for one in every}),
        by_split=by(SPLITS, lambda one: one.split),
        by_sequence=by((*SEQUENCES, UNKNOWN), lambda one: one.labels.sequence),
        by_plane=by((*PLANES, UNKNOWN), lambda one: one.labels.plane),
        by_contrast=by(("yes", "no", UNKNOWN), _contrast),
        by_region={
            region: by(("shown", "not shown", UNKNOWN), partial(_shown, region))
            for region in REGIONS
        },
        size_bytes=size_bytes,
    )


def _contrast(one: StoredVolume) -> str | None:
    return {True: "yes", False: "no", None: None}[one.labels.contrast]


def _shown(region: str, one: StoredVolume) -> str | None:
    if region not in one.labels.regions_known:
        return None
    return "shown" if region in one.labels.regions else "not shown"
