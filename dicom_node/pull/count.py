"""How many instances a study has: C-FIND as SCU, Study Root (PS3.4 C.4.1, C.6.2)."""

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.config import CountAt
from dicom_node.errors import DestinationDownError
from dicom_node.header import BROKEN_BYTES
from dicom_node.requestor import associate

#: Study Root Query/Retrieve Information Model - FIND
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_QUESTIONS: Final = (
    ("STUDY", "NumberOfStudyRelatedInstances"),
    ("SERIES", "NumberOfSeriesRelatedInstances"),
)
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_LONGEST_ANSWER: Final = 10_000


def count_instances(study_instance_uid: str, at: CountAt, *, calling_ae_title: str) -> int | None:
    """Ask a PACS how many instances a study has.

    Number of Study Related Instances (0020,1208) where the PACS tells it, else the sum of Number of
    Series Related Instances (0020,1209).

    Returns
    -------
    int or None
        None when the PACS does not know the study, or does not count.

    Raises
    ------
    DestinationDownError
        When there is no answer.
    """
    assoc = _associate(at, calling_ae_title)
    try:
        for level, keyword in _QUESTIONS:
            counts = [
                _number(found, keyword) for found in _ask(assoc, study_instance_uid, level, keyword)
            ]
            if counts and None not in counts:
                return sum(count or 0 for count in counts)
    finally:
        if assoc.is_established:
            assoc.release()
    return None


def _associate(at: CountAt, calling_ae_title: str) -> Association:
    contexts = [build_context(STUDY_ROOT_FIND)]
    assoc = associate(at, contexts, calling_ae_title=calling_ae_title)
    if not assoc.is_established or not assoc.accepted_contexts:
        if assoc.is_established:
            assoc.release()
        raise DestinationDownError(
            f"{at.ae_title} at {at.host}:{at.port} takes no C-FIND association: check "
            "study.count_at, and that the PACS knows this node's AE title"
        )
    return assoc


def _ask(
    assoc: Association, study_instance_uid: str, level: str, keyword: str
) -> Iterator[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_instance_uid
    if level == "SERIES":
        query.SeriesInstanceUID = None
    setattr(query, keyword, None)
    try:
        answers = assoc.send_c_find(query, STUDY_ROOT_FIND)
        for number, (status, identifier) in enumerate(answers):
            if "Status" not in status or number > _LONGEST_ANSWER:
                raise DestinationDownError("no answer to C-FIND in time; see the PACS's log")
            if status.Status in _PENDING and identifier is not None:
                yield identifier
    except RuntimeError:  # the association ended under our hands
        raise DestinationDownError("the PACS dropped the association") from None


def _number(found: Dataset, keyword: str) -> int | None:
    try:
        value = found.get(keyword)
        return None if value in (None, "") else int(value)
    except BROKEN_BYTES:
        return None
