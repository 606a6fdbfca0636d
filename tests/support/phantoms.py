"""Phantoms for tests: measures on their label maps, and stores filled with them."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.field import field_of
from dicom_node.phantom.probes import PROBES
from dicom_node.phantom.study import PhantomInstance, StudySpec, write_study
from dicom_node.store import NewFrame, Origin, Provenance, Reading, WeakLabelStore
from tests.support.labels import readings


def interface_columns(label_map: NDArray[np.uint8], reach_px: int) -> set[int]:
    """Return the columns in which kidney begins at most `reach_px` below liver.

    Parameters
    ----------
    label_map : array
        uint8 (R, C), 1 liver, 2 kidney.
    reach_px : int
        How far apart they may lie in pixels.
    """
    found = set()
    for column in range(label_map.shape[1]):
        kidney = np.flatnonzero(label_map[:, column] == 2)
        liver = np.flatnonzero(label_map[:, column] == 1)
        above = liver[liver < kidney[0]] if kidney.size else liver[:0]
        if above.size and kidney[0] - above[-1] <= reach_px:
            found.add(column)
    return found


def fill_store(folder: Path, specs: Iterable[StudySpec], *, labelled: bool = True) -> None:
    """Put phantoms into a store, with all their labels or none, without the node between."""
    with WeakLabelStore(folder) as store, tempfile.TemporaryDirectory() as files:
        for spec in specs:
            for instance in write_study(Path(files), spec):
                _put(store, instance, spec.probe, labelled=labelled)


def _put(store: WeakLabelStore, instance: PhantomInstance, probe: str, *, labelled: bool) -> None:
    _, rows, columns = instance.frames.shape
    crop = field_of(PROBES[probe], rows, columns).region
    pseudonym = _pseudonym(instance.sop_instance_uid)
    said: list[Reading] = []
    for number, (frame, labels) in enumerate(
        zip(instance.frames, instance.label_maps, strict=True), start=1
    ):
        new = NewFrame(
            pixels=frame[crop.slices],
            patient=_pseudonym(instance.patient_id),
            study=_pseudonym(instance.study_instance_uid),
            series=_pseudonym(instance.study_instance_uid + " series"),
            instance=pseudonym,
            frame_number=number,
            rows=rows,
            columns=columns,
            crop=crop,
            geometry=PROBES[probe].geometry,
        )
        store.add_frame(new)
        said += readings(number, quality=instance.quality, mask=labels[crop.slices])
    if labelled:
        by = Provenance(reader="e" * 32, object=pseudonym, origin=Origin.SEG)
        store.readers.put(pseudonym, by, said)


def _pseudonym(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
