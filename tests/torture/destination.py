"""The destination: a storage SCP that counts what comes, and how often."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.config import Destination
from tests.support.scp import shut_down

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
KINDS = {SEG: "seg", SR: "sr"}


@dataclass
class Archive:
    """What the destination got."""

    destination: Destination
    #: SHA-256 of the data set of each object, by SOP Instance UID
    objects: dict[str, str] = field(default_factory=dict)
    #: objects by (SOP Instance UID of the image that they speak of, kind)
    results: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    #: series and Instance Number, by SOP Instance UID
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: objects that came again
    redelivered: Counter[str] = field(default_factory=Counter)
    #: ... with other bytes
    changed: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def has_all(self, image_uid: str) -> bool:
        """Whether each kind of result came for an image."""
        return all((image_uid, kind) in self.results for kind in KINDS.values())

    def last_of(self, series_instance_uid: str) -> str:
        """Return the object of a series with the highest Instance Number: what viewers show."""
        numbers = {
            uid: number
            for uid, (series, number) in self.places.items()
            if series == series_instance_uid
        }
        return max(numbers, key=lambda uid: numbers[uid])


@contextmanager
def archive(port: int) -> Iterator[Archive]:
    """Run the destination."""
    state = Archive(
        destination=Destination(
            name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, timeout_s=10.0
        )
    )
    ae = AE(ae_title="ARCHIVE")
    for sop_class in KINDS:
        ae.add_supported_context(sop_class, [ExplicitVRLittleEndian])
    ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, _take, [state])]
    )
    try:
        yield state
    finally:
        shut_down(ae)


def _take(event: evt.Event, state: Archive) -> int:
    ds = event.dataset
    uid, kind = str(ds.SOPInstanceUID), KINDS[str(ds.SOPClassUID)]
    sha256 = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
    with state.lock:
        if uid in state.objects:
            state.redelivered[uid] += 1
            if state.objects[uid] != sha256:
                state.changed.add(uid)
        state.objects[uid] = sha256
        state.places[uid] = str(ds.SeriesInstanceUID), int(ds.InstanceNumber)
        for image in _images(ds):
            state.results.setdefault((image, kind), set()).add(uid)
    return 0x0000


def _images(ds: Dataset) -> set[str]:
    """Return what a SEG or SR refers to, without the SEGs that an SR speaks of."""
    series = list(ds.get("ReferencedSeriesSequence", []))
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence", []):
        series += study.ReferencedSeriesSequence
    references = [
        reference
        for one in series
        for reference in one.get("ReferencedInstanceSequence", one.get("ReferencedSOPSequence", []))
    ]
    return {
        str(reference.ReferencedSOPInstanceUID)
        for reference in references
        if reference.ReferencedSOPClassUID not in KINDS
    }
