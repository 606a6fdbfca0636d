"""What readers say of frames, for tests: put into a store as the node puts it."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dicom_node.store import QUALITY, Origin, Provenance, Reading, WeakLabelStore
from dicom_node.store.label_sets import DEFAULT_LABEL_SET, class_set, label_set


def say(
    store: WeakLabelStore,
    instance: str,
    frame_number: int,
    *,
    quality: int | None = None,
    mask: NDArray[np.uint8] | None = None,
    labels: str = DEFAULT_LABEL_SET,
    class_name: str | None = None,
) -> None:
    """Say something of a frame; what is given replaces what was said of it before.

    Parameters
    ----------
    store : WeakLabelStore
    instance : str
        Pseudonym.
    frame_number : int
        1-based.
    quality : int, optional
    mask : ndarray of uint8, shape (H, W), optional
        Of the stored crop, with the values of the label set `labels`.
    labels : str
    class_name : str, optional
        As ``set/class``: ``breast/benign``.
    """
    said = readings(frame_number, quality=quality, mask=mask, labels=labels, class_name=class_name)
    name = hashlib.sha256(f"{instance} {frame_number}".encode()).hexdigest()[:32]
    provenance = Provenance(reader="e" * 32, object=name, origin=Origin.CSV)
    store.readers.put(instance, provenance, list(said), adds=True)


def readings(
    frame_number: int,
    *,
    quality: int | None = None,
    mask: NDArray[np.uint8] | None = None,
    labels: str = DEFAULT_LABEL_SET,
    class_name: str | None = None,
) -> Iterator[Reading]:
    """Yield the readings of a frame; parameters are those of `say`."""
    if quality is not None:
        yield Reading(frame_number=frame_number, about=QUALITY, value=quality)
    if mask is not None:
        every = frozenset(range(1, 1 + len(label_set(labels).names)))
        yield Reading(frame_number=frame_number, about=labels, mask=mask, labels=every)
    if class_name is not None:
        about, _, name = class_name.partition("/")
        place = class_set(about).names.index(name)
        yield Reading(frame_number=frame_number, about=about, value=place)
