"""Which studies an archive has, and which instances: C-FIND as SCU, Study Root (PS3.4 C.4.1)."""

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.config import DimseArchive
from dicom_node.errors import DestinationDownError, UnreadableError
from dicom_node.header import BROKEN_BYTES, text
from dicom_node.pull.asked import (
    STUDY_KEYS,
    Answer,
    FoundStudy,
    Image,
    Listing,
    Span,
    Wanted,
    is_uid,
)
from dicom_node.pull.associating import associate_with
from dicom_node.pull.count import STUDY_ROOT_FIND

_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SUCCESS: Final = 0x0000
#: Out of resources, and terminated due to a cancel that nobody asked for: there is more
_CUT_SHORT: Final = frozenset({0xA700, 0xFE00})
#: Unable to process (PS3.4 Table C.4-1): some archives say so of too many matches
_UNABLE: Final = range(0xC000, 0xD000)


class Finder:
    """Asks an archive over one association, which is opened anew when it ended.

    Parameters
    ----------
    at : DimseArchive
    calling_ae_title : str
        Our own AE title.
    """

    def __init__(self, at: DimseArchive, *, calling_ae_title: str) -> None:
        self._at, self._calling_ae_title = at, calling_ae_title
        self._assoc: Association | None = None

    def studies(self, span: Span, wanted: Wanted) -> Answer:
        """Return the studies of a piece of time, those of the keys that it knows.

        Raises
        ------
        DestinationDownError
            When there is no answer, or one that says that the question will not do.
        """
        query = _query("STUDY", *STUDY_KEYS)
        query.StudyDate = span.study_date
        query.StudyTime = span.study_time
        query.StudyDescription = wanted.sent_description
        query.ModalitiesInStudy = wanted.modality
        answers, is_whole = self._ask(query)
        found = (_study(answer) for answer in answers)
        return Answer(
            studies={one.study_instance_uid: one for one in found if one is not None},
            is_whole=is_whole,
        )

    def images(self, study_instance_uid: str) -> Listing:
        """Return the instances of a study; raises as `studies`."""
        query = _query("SERIES", "SeriesInstanceUID", "Modality")
        query.StudyInstanceUID = study_instance_uid
        series, is_whole = self._ask(query)
        images: list[Image] = []
        for one in series:
            query = _query("IMAGE", "SOPInstanceUID", "SOPClassUID")
            query.StudyInstanceUID = study_instance_uid
            query.SeriesInstanceUID = series_uid = _text(one, "SeriesInstanceUID")
            answers, are_all = self._ask(query)
            is_whole = is_whole and are_all
            images += _images(answers, series_uid, _text(one, "Modality"))
        return Listing(images=images, is_whole=is_whole)

    def close(self) -> None:
        """Release the association."""
        if self._assoc is not None and self._assoc.is_established:
            self._assoc.release()
        self._assoc = None

    def _ask(self, query: Dataset) -> tuple[list[Dataset], bool]:
        """Return what was found, and whether that is all."""
        found: list[Dataset] = []
        last: int | None = None
        try:
            for status, identifier in self._associated().send_c_find(query, STUDY_ROOT_FIND):
                last = status.get("Status")
                if last in _PENDING and identifier is not None:
                    found.append(identifier)
        except RuntimeError:  # the association ended under our hands
            last = None
        if last is None:
            self.close()
            raise DestinationDownError(
                f"{self._at.ae_title} gave no answer to C-FIND; see its log, or raise timeout_s"
            )
        if last not in _CUT_SHORT and last not in _UNABLE and last != _SUCCESS:
            raise DestinationDownError(
                f"{self._at.ae_title} answered C-FIND with 0x{last:04X}; see its log"
            )
        return found, last == _SUCCESS

    def _associated(self) -> Association:
        if self._assoc is None or not self._assoc.is_established:
            contexts = [build_context(STUDY_ROOT_FIND)]
            assoc = associate_with(self._at, contexts, calling_ae_title=self._calling_ae_title)
            if not assoc.is_established or not assoc.accepted_contexts:
                if assoc.is_established:
                    assoc.release()
                raise DestinationDownError(
                    f"{self._at.ae_title} at {self._at.host}:{self._at.port} takes no C-FIND "
                    f"association: check archives: {self._at.name}, and that the archive knows "
                    f"the AE title {self._calling_ae_title}"
                )
            self._assoc = assoc
        return self._assoc


def image_query(
    study_instance_uid: str, series_instance_uid: str = "", images: Sequence[str] = ()
) -> Dataset:
    """Return the Identifier of a study, or of instances of one series (PS3.4 C.4.2.1.4)."""
    query = _query("IMAGE" if images else "STUDY")
    query.StudyInstanceUID = study_instance_uid
    if images:
        query.SeriesInstanceUID = series_instance_uid
        query.SOPInstanceUID = list(images)
    return query


def _query(level: str, *keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for key in keys:
        setattr(query, key, None)
    return query


def _study(found: Dataset) -> FoundStudy | None:
    uid = _text(found, "StudyInstanceUID")
    count = _text(found, "NumberOfStudyRelatedInstances")
    if not is_uid(uid):
        return None
    return FoundStudy(
        study_instance_uid=uid,
        instances=int(count) if count.isdecimal() else None,
        date=_text(found, "StudyDate"),
        time=_text(found, "StudyTime"),
        description=_text(found, "StudyDescription"),
        modalities=frozenset(_texts(found, "ModalitiesInStudy")),
    )


def _images(answers: Iterable[Dataset], series_uid: str, modality: str) -> list[Image]:
    uids = ((_text(one, "SOPInstanceUID"), _text(one, "SOPClassUID")) for one in answers)
    return [
        Image(
            series_instance_uid=series_uid,
            sop_instance_uid=uid,
            sop_class_uid=sop_class_uid,
            modality=modality,
        )
        for uid, sop_class_uid in uids
        if is_uid(uid)
    ]


def _text(found: Dataset, keyword: str) -> str:
    try:
        return text(found, keyword)
    except UnreadableError:
        return ""


def _texts(found: Dataset, keyword: str) -> list[str]:
    try:
        value = found.get(keyword) or []
        values = value if isinstance(value, MultiValue | list) else [value]
        return [one for one in (str(part).strip() for part in values) if one]
    except BROKEN_BYTES:
        return []
