"""What the harvest reads of a header, once."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset

from dicom_node.harvest.terms import SEQUENCES, TEXTS, Term, read_terms
from dicom_node.header import BROKEN_BYTES, read_header, text

#: Field of `Words` to attribute keyword.
KEYWORDS = {
    "patient_id": "PatientID",
    "manufacturer": "Manufacturer",
    "model_name": "ManufacturerModelName",
    "transducer_data": "TransducerData",
    "transducer_type": "TransducerType",
    "study_description": "StudyDescription",
    "burned_in_annotation": "BurnedInAnnotation",
}
#: The ways to say how fast a cine runs, best first (PS3.3 C.7.6.5): what their value turns into
#: seconds a frame, as (factor, power). Frame Time is in ms, the others in frames per second.
FRAME_RATES = {
    "FrameTime": (0.001, 1),
    "CineRate": (1.0, -1),
    "RecommendedDisplayFrameRate": (1.0, -1),
}
#: What lies outside is a mistake, in seconds.
FRAME_TIMES_S = (0.0005, 60.0)
#: SonoSite writes a code into Transducer Data and the probe's name into XML of its own: private
#: creator (0019,0010) and Clip (0019,1050), as seen in Turbo files.
CREATOR, CLIP = 0x00190010, 0x00191050
SONOSITE = "SonoSite Private Data"
SCANHEAD_NAME = re.compile(r"<ScanheadName>\s*([^<>\\,]{1,64}?)\s*</ScanheadName>")
#: The Clip has 27 kB; more is not searched.
MOST_CLIP_CHARACTERS = 262144
#: YES of what shows a phantom (PS3.3 C.7.1.1): a device that is tested, or a whole node.
QUALITY_CONTROL = "QualityControlSubject"
#: All that is read.
WANTED: tuple[str | int, ...] = (
    *(*KEYWORDS.values(), *FRAME_RATES, "FrameTimeVector", QUALITY_CONTROL),
    *(*TEXTS, *SEQUENCES, CREATOR, CLIP),
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Text of a header, "" where absent. Private: never logged, never stored as it is."""

    patient_id: str
    manufacturer: str
    model_name: str
    #: with the name from the vendor's private attributes as one more value
    transducer_data: str
    transducer_type: str
    study_description: str
    burned_in_annotation: str
    #: what the other sources say of the image
    terms: tuple[Term, ...]
    #: None when the header does not say
    frame_time_s: float | None

    @property
    def may_show_text(self) -> bool:
        """Whether text may be burned in: only an explicit NO denies it (PS3.3 C.7.6.1)."""
        return self.burned_in_annotation.upper() != "NO"


def read_words(path: Path) -> Words:
    """Read the words of a file.

    Raises
    ------
    UnreadableError
        When the bytes are not readable as DICOM.
    """
    return words_of(read_header(path, WANTED))


def words_of(header: FileDataset) -> Words:
    """Return the words of a header that was read already, with `WANTED`; see `read_words`."""
    found = {field: text(header, keyword) for field, keyword in KEYWORDS.items()}
    scanhead = _scanhead_name(header)
    if scanhead:
        found["transducer_data"] = "\\".join(filter(None, [found["transducer_data"], scanhead]))
    return Words(**found, terms=read_terms(header), frame_time_s=_frame_time_s(header))


def shows_phantom(header: FileDataset) -> bool:
    """Whether a header, read with `WANTED`, says that the image shows a phantom."""
    return text(header, QUALITY_CONTROL).strip().upper() == "YES"


def _scanhead_name(header: FileDataset) -> str:
    """Return the probe's name in SonoSite's private attributes, "" where there is none."""
    try:
        creator, clip = (header[tag].value if tag in header else "" for tag in (CREATOR, CLIP))
    except BROKEN_BYTES:  # an attribute of the vendor's own costs no image
        return ""
    # Implicit VR says nothing of private attributes: they are bytes (UN)
    creator, clip = (
        v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in (creator, clip)
    )
    found = SCANHEAD_NAME.search(clip[:MOST_CLIP_CHARACTERS])
    return found[1] if found and creator.strip(" \0") == SONOSITE else ""


def patient_of(words: Words, study_instance_uid: str) -> str:
    """Return what stands for the patient.

    Without Patient ID a study is its own patient: better two splits than one for everybody.
    """
    return words.patient_id or study_instance_uid


def _frame_time_s(header: FileDataset) -> float | None:
    for keyword, (factor, power) in FRAME_RATES.items():
        value = _number(text(header, keyword))
        frame_time_s = factor * value**power if value else 0.0
        if FRAME_TIMES_S[0] <= frame_time_s <= FRAME_TIMES_S[1]:
            return float(frame_time_s)
    # increments in ms, the first one 0: their mean
    increments = [_number(part) or 0.0 for part in text(header, "FrameTimeVector").split("\\")[1:]]
    mean_s = sum(increments) / 1000 / max(1, len(increments))
    return mean_s if FRAME_TIMES_S[0] <= mean_s <= FRAME_TIMES_S[1] else None


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
