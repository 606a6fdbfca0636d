"""Let an archive give over the association of the question: C-GET as SCU (PS3.4 C.4.3)."""

from collections.abc import Collection
from typing import Final, cast

from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.config import DimseArchive
from dicom_node.errors import DestinationDownError
from dicom_node.pull.asked import Incoming, Keep
from dicom_node.pull.associating import associate_with
from dicom_node.sop_classes import RESULTS, ULTRASOUND_IMAGES

#: Study Root Query/Retrieve Information Model - GET
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
#: So many contexts fit into a request (PS3.8 9.3.2.2: odd numbers of a byte).
_MOST_CONTEXTS: Final = 128
_SUCCESS: Final = 0x0000
#: Sub-operations complete, one or more failures (PS3.4 Table C.4-3): what lacks is asked for again
_WARNING: Final = 0xB000
_NOT_UNDERSTOOD: Final = 0xC000

#: Each in a context of its own, so that the archive converts nothing; the commonest first, as a
#: study of many classes leaves room for few.
_TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline (Process 1)
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, First-Order Prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 (Lossless Only)
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 High Profile / Level 4.1
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (Retired)
    "1.2.840.10008.1.2.4.51",  # JPEG Extended (Process 2 and 4)
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless (Process 14)
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.100",  # MPEG2 Main Profile / Main Level
    "1.2.840.10008.1.2.4.101",  # MPEG2 Main Profile / High Level
    "1.2.840.10008.1.2.4.103",  # MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 (Lossless Only)
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
)


def get(
    query: Dataset,
    at: DimseArchive,
    *,
    classes: Collection[str],
    calling_ae_title: str,
    keep: Keep,
) -> None:
    """Let an archive give what a query names.

    Parameters
    ----------
    query : Dataset
        The Identifier (PS3.4 C.4.3.1.3).
    at : DimseArchive
    classes : collection of str
        SOP classes of what the query names; "" where one is not known.
    calling_ae_title : str
        Our own AE title.
    keep : callable
        Keeps an instance; the archive is told the status that it returns.

    Raises
    ------
    DestinationDownError
        When the archive does not answer, or gives up.
    """
    known = sorted(set(classes) - {""})
    if not known or "" in classes:
        known += sorted({*ULTRASOUND_IMAGES, *RESULTS} - set(known))
    known = known[: _MOST_CONTEXTS - 1]
    roles = [build_role(uid, scp_role=True) for uid in known]
    assoc = associate_with(at, _contexts(known), calling_ae_title=calling_ae_title, roles=roles)
    try:
        accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        if not assoc.is_established or STUDY_ROOT_GET not in accepted:
            raise DestinationDownError(
                f"{at.ae_title} at {at.host}:{at.port} takes no C-GET association: check "
                f"archives: {at.name}, or set its retrieve: move"
            )
        assoc.bind(evt.EVT_C_STORE, _keep_event, [keep])
        last: int | None = None
        for status, _ in assoc.send_c_get(query, STUDY_ROOT_GET):
            last = status.get("Status")
    except RuntimeError:  # the association ended under our hands
        last = None
    finally:
        if assoc.is_established:
            assoc.release()
    if last not in (_SUCCESS, _WARNING):
        told = "nothing" if last is None else f"0x{last:04X}"
        raise DestinationDownError(f"{at.ae_title} answered C-GET with {told}; see its log")


def _contexts(classes: Collection[str]) -> list[PresentationContext]:
    each = max((_MOST_CONTEXTS - 1) // len(classes), 1)
    pairs = [(uid, syntax) for uid in classes for syntax in _TRANSFER_SYNTAXES[:each]]
    return [build_context(STUDY_ROOT_GET), *(build_context(*pair) for pair in pairs)]


def _keep_event(event: evt.Event, keep: Keep) -> int:
    request = cast(C_STORE, event.request)
    if request.DataSet is None:
        return _NOT_UNDERSTOOD
    return keep(
        Incoming(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            fragments=[request.DataSet.getbuffer()],
        )
    )
