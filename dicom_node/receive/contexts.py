"""Which presentation contexts the node accepts (PS3.8 7.1.1.13, PS3.4 B.5)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from pydicom.config import IGNORE
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.errors import PermanentError
from dicom_node.records import checked_uid

VERIFICATION: Final = "1.2.840.10008.1.1"
#: What peers say about instances, see notices.py: Storage Commitment Push Model (PS3.4 J),
#: Modality Performed Procedure Step (PS3.4 F.7), Instance Availability Notification (PS3.4 R).
COMMITMENT: Final = "1.2.840.10008.1.20.1"
PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
AVAILABILITY: Final = "1.2.840.10008.5.1.4.33"
_NOTICES: Final = (COMMITMENT, PROCEDURE_STEP, AVAILABILITY)
_UNCOMPRESSED: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

_STANDARD_ROOT: Final = "1.2.840.10008."
#: Below it stand the SOP classes of composite objects, the retired ones included.
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."

#: Every transfer syntax a PACS may hold, in the order of choice where a context proposes several.
#: Explicit VR stands before Implicit: a sender that converts to Implicit turns private attributes
#: into UN. Deflated is missing: a small file could ask for any amount of memory.
TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (Retired)
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed Explicit VR Little Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, First-Order Prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless (Process 14)
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 (Lossless Only)
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 Multi-component (Lossless Only)
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 (Lossless Only)
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 with RPCL Options (Lossless Only)
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline (Process 1)
    "1.2.840.10008.1.2.4.51",  # JPEG Extended (Process 2 and 4)
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2 Multi-component
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.100",  # MPEG2 Main Profile / Main Level
    "1.2.840.10008.1.2.4.100.1",  # Fragmentable MPEG2 Main Profile / Main Level
    "1.2.840.10008.1.2.4.101",  # MPEG2 Main Profile / High Level
    "1.2.840.10008.1.2.4.101.1",  # Fragmentable MPEG2 Main Profile / High Level
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 High Profile / Level 4.1
    "1.2.840.10008.1.2.4.102.1",  # Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1
    "1.2.840.10008.1.2.4.103",  # MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
    "1.2.840.10008.1.2.4.103.1",  # Fragmentable MPEG-4 AVC/H.264 BD-compatible
    "1.2.840.10008.1.2.4.104",  # MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video
    "1.2.840.10008.1.2.4.104.1",  # Fragmentable MPEG-4 AVC/H.264 For 2D Video
    "1.2.840.10008.1.2.4.105",  # MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video
    "1.2.840.10008.1.2.4.105.1",  # Fragmentable MPEG-4 AVC/H.264 For 3D Video
    "1.2.840.10008.1.2.4.106",  # MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2
    "1.2.840.10008.1.2.4.106.1",  # Fragmentable MPEG-4 AVC/H.264 Stereo High Profile
    "1.2.840.10008.1.2.4.107",  # HEVC/H.265 Main Profile / Level 5.1
    "1.2.840.10008.1.2.4.108",  # HEVC/H.265 Main 10 Profile / Level 5.1
    # retired processes of JPEG (PS3.5 Annex A of 2000), still in old archives
    *(f"1.2.840.10008.1.2.4.{process}" for process in (*range(52, 57), *range(58, 67))),
)


def contexts_for(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return what the node supports of the abstract syntaxes that a peer proposes.

    Parameters
    ----------
    proposed : iterable of PresentationContext
        As in the A-ASSOCIATE request.
    """
    uids = sorted({str(context.abstract_syntax) for context in proposed})
    supported = [_context(uid, TRANSFER_SYNTAXES) for uid in uids if is_storage(uid)]
    supported += [_context(uid, _UNCOMPRESSED) for uid in uids if uid in _NOTICES]
    return [*supported, build_context(VERIFICATION)]


def has_storage(contexts: Iterable[PresentationContext]) -> bool:
    """Tell whether instances may come in one of these contexts."""
    return any(is_storage(str(context.abstract_syntax)) for context in contexts)


@lru_cache(maxsize=256)  # two requests of the largest kind; a context takes some kilobytes
def _context(abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    """Return a context, made once: pynetdicom checks every UID of it, and later only reads it."""
    context = build_context(abstract_syntax, list(transfer_syntaxes))
    if abstract_syntax == COMMITMENT:
        # who reports is the class's SCP, and proposes to be (PS3.7 D.3.3.4)
        context.scu_role = context.scp_role = True
    return context


@lru_cache(maxsize=1024)
def is_storage(sop_class_uid: str) -> bool:
    """Tell whether instances of a SOP class are taken in.

    All Storage classes of the standard, retired ones too, and every class that this version of the
    standard does not know: modalities keep raw volumes and measurements in private ones.
    """
    try:
        uid = UID(checked_uid(sop_class_uid, "Abstract Syntax"), IGNORE)
    except PermanentError:
        return False
    if uid.name == uid:  # pydicom knows no name for it
        return uid.startswith(_STORAGE_ROOT) or not uid.startswith(_STANDARD_ROOT)
    return uid.startswith(_STORAGE_ROOT) and " Storage" in uid.name
