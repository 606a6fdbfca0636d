"""Let a PACS send a study here: C-MOVE as SCU, Study Root (PS3.4 C.4.2, C.6.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.config import FetchFrom
from dicom_node.errors import DestinationDownError
from dicom_node.header import BROKEN_BYTES
from dicom_node.requestor import Peer, associate

#: Study Root Query/Retrieve Information Model - MOVE
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
_SUCCESS: Final = 0x0000
#: Sub-operations complete, one or more failures (PS3.4 Table C.4-2)
_WARNING: Final = 0xB000
_UNKNOWN_DESTINATION: Final = 0xA801


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a C-MOVE came to."""

    #: sub-operations, each a C-STORE to the destination (PS3.7 9.1.4)
    completed: int
    failed: int


def move_study(
    study_instance_uid: str, at: FetchFrom, *, calling_ae_title: str, to_ae_title: str
) -> Moved:
    """Let a PACS send all that it has of a study to an AE title that it knows.

    What comes is received like anything else; when this returns, the PACS has an answer to each of
    its C-STOREs.

    Parameters
    ----------
    study_instance_uid : str
    at : FetchFrom
        The PACS.
    calling_ae_title : str
        Who asks.
    to_ae_title : str
        Move Destination (0000,0600).

    Returns
    -------
    Moved
        All zero when the PACS does not have the study.

    Raises
    ------
    DestinationDownError
        When the PACS does not answer, does not know the destination, or gives up.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_instance_uid
    assoc = associate(at, [build_context(STUDY_ROOT_MOVE)], calling_ae_title=calling_ae_title)
    return move(assoc, query, at, to_ae_title=to_ae_title, key="study.fetch_from")


def move(assoc: Association, query: Dataset, at: Peer, *, to_ae_title: str, key: str) -> Moved:
    """Let a PACS send what a query names, over an association that is released then.

    Parameters
    ----------
    assoc : Association
        As it was asked for; it may not have come to be.
    query : Dataset
        The Identifier (PS3.4 C.4.2.1.4).
    at : Peer
        The PACS.
    to_ae_title : str
        Move Destination (0000,0600).
    key : str
        Of the configuration, that names the PACS.

    Raises
    ------
    DestinationDownError
        As `move_study`.
    """
    try:
        if not assoc.is_established or not assoc.accepted_contexts:
            raise DestinationDownError(
                f"{at.ae_title} at {at.host}:{at.port} takes no C-MOVE association: check "
                f"{key}, and that the PACS knows this node's AE title"
            )
        last = Dataset()
        for status in _answers(assoc, query, to_ae_title):
            last = status
        return _moved(last, at, to_ae_title)
    finally:
        if assoc.is_established:
            assoc.release()


def _answers(assoc: Association, query: Dataset, to_ae_title: str) -> Iterator[Dataset]:
    """Yield the C-MOVE responses; the last one is not pending."""
    try:
        for status, _ in assoc.send_c_move(query, to_ae_title, STUDY_ROOT_MOVE):
            if "Status" not in status:
                raise DestinationDownError("no answer to C-MOVE in time; see the PACS's log")
            yield status
    except RuntimeError:  # the association ended under our hands
        raise DestinationDownError("the PACS dropped the association") from None


def _moved(last: Dataset, at: Peer, to_ae_title: str) -> Moved:
    status = last.get("Status")
    if status == _UNKNOWN_DESTINATION:
        raise DestinationDownError(
            f"{at.ae_title} does not know the move destination {to_ae_title}: enter this node's "
            "AE title, address and port there"
        )
    if status not in (_SUCCESS, _WARNING):
        told = "nothing" if status is None else f"0x{status:04X}"
        raise DestinationDownError(
            f"{at.ae_title} answered C-MOVE to {to_ae_title} with {told}: it may not have the "
            "study; see the PACS's log"
        )
    return Moved(
        completed=_number(last, "NumberOfCompletedSuboperations")
        + _number(last, "NumberOfWarningSuboperations"),
        failed=_number(last, "NumberOfFailedSuboperations"),
    )


def _number(status: Dataset, keyword: str) -> int:
    try:
        return int(status.get(keyword) or 0)
    except BROKEN_BYTES:
        return 0
