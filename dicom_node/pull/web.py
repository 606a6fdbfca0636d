"""An archive that speaks DICOMweb: QIDO-RS, then WADO-RS (PS3.18 10.4, 10.6)."""

from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.datadict import tag_for_keyword

from dicom_node.config import DicomwebArchive
from dicom_node.errors import DestinationDownError, NotGivenError, UnreadableError
from dicom_node.pull.asked import (
    STUDY_KEYS,
    Answer,
    FoundStudy,
    Image,
    Incoming,
    Keep,
    Listing,
    Span,
    Wanted,
    is_uid,
)
from dicom_node.pull.part10 import HEAD_BYTES, file_meta_of

#: Results of one request; the next ones are asked for with ``offset``.
_PAGE: Final = 200
_IMAGE_KEYS: Final = ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
#: As it is stored: the archive converts nothing.
_ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_GONE: Final = frozenset({404, 410})
#: Of those that fault the request, what is said of who asks, and when, not of what is asked for:
#: Unauthorized, Request Timeout, Too Many Requests (RFC 9110 15.5, RFC 6585 4)
_OF_ALL: Final = frozenset({401, 408, 429})

#: What reading JSON of another form comes to.
_NOT_DICOMWEB: Final = (ValueError, LookupError, TypeError, AttributeError)

_Item: TypeAlias = dict[str, Any]
_T = TypeVar("_T")


class WebPuller:
    """Asks a DICOMweb server, and gets instance by instance.

    Parameters
    ----------
    at : DicomwebArchive
    session : requests.Session
        Shows the server who asks.
    keep : callable
        Keeps what came.
    """

    def __init__(self, at: DicomwebArchive, session: requests.Session, *, keep: Keep) -> None:
        self._at, self._session, self._keep = at, session, keep
        self._url = at.url.rstrip("/")
        self._client = DICOMwebClient(self._url, session=session, timeout=at.timeout_s)
        self._client.set_http_retry_params(retry=False)  # the harvest tries again

    def studies(self, span: Span, wanted: Wanted) -> Answer:
        """Return the studies of a piece of time, those of the keys that it knows.

        Raises
        ------
        DestinationDownError
            When there is no answer, or none that can be read.
        """
        return self._call(partial(self._studies, span, wanted))

    def images(self, study_instance_uid: str) -> Listing:
        """Return the instances of a study.

        Raises
        ------
        NotGivenError
            When the server says that it does not give this study.
        DestinationDownError
            As `studies`.
        """
        return self._call_for_study(partial(self._images, study_instance_uid))

    def retrieve(self, study_instance_uid: str, images: Sequence[Image], *, whole: bool) -> None:
        """Get instances of a study, each in its own request.

        Raises
        ------
        NotGivenError
            When some of them are not given; the others came.
        DestinationDownError
            As `studies`.
        """
        not_given: NotGivenError | None = None
        for image in images:
            place = f"studies/{study_instance_uid}/series/{image.series_instance_uid}"
            url = f"{self._url}/{place}/instances/{image.sop_instance_uid}"
            try:
                incoming = self._call_for_study(partial(self._get, url))
            except NotGivenError as exc:
                not_given = exc
                continue
            if incoming is not None:
                self._keep(incoming)
        if not_given is not None:
            raise not_given

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _studies(self, span: Span, wanted: Wanted) -> Answer:
        # no description: not every server reads "%2A" and "+" as "*" and blank
        filters = {
            "StudyDate": span.study_date,
            "StudyTime": span.study_time,
            "ModalitiesInStudy": wanted.modality or "",
        }
        search = partial(
            self._client.search_for_studies,
            search_filters={key: value for key, value in filters.items() if value},
            fields=list(STUDY_KEYS),
        )
        items, is_whole = self._pages(search, "StudyInstanceUID")
        studies = {uid: _study(uid, item) for uid, item in items.items()}
        return Answer(studies=studies, is_whole=is_whole)

    def _images(self, study_instance_uid: str) -> Listing:
        search = partial(
            self._client.search_for_instances,
            study_instance_uid=study_instance_uid,
            fields=list(_IMAGE_KEYS),
        )
        items, is_whole = self._pages(search, "SOPInstanceUID")
        images = [
            Image(
                series_instance_uid=_text(item, "SeriesInstanceUID"),
                sop_instance_uid=uid,
                sop_class_uid=_text(item, "SOPClassUID"),
                modality=_text(item, "Modality"),
            )
            for uid, item in items.items()
        ]
        return Listing(images=images, is_whole=is_whole)

    def _pages(
        self, search: Callable[..., list[_Item]], keyword: str
    ) -> tuple[dict[str, _Item], bool]:
        """Return what a search finds, by UID, and whether that is all."""
        items: dict[str, _Item] = {}
        while True:
            # what is stored meanwhile moves the pages; the next harvest finds it
            page = search(limit=_PAGE, offset=len(items))
            fresh = {uid: item for item in page if is_uid(uid := _text(item, keyword))}
            if not page:
                return items, True
            if fresh.keys() <= items.keys():  # it knows no offset, and gives the first page again
                return items, len(page) < _PAGE
            items |= fresh

    def _call_for_study(self, function: Callable[[], _T]) -> _T:
        """Make requests for one study: an answer that faults them says nothing of other studies."""

        def ask() -> _T:
            try:
                return function()
            except requests.HTTPError as exc:
                status = _status(exc)
                if not 400 <= status < 500 or status in _OF_ALL:
                    raise
                told = f"HTTP {status}; see what this node's user may do there"
            raise NotGivenError(f"{self._url} does not give this study: {told}")

        return self._call(ask)

    def _call(self, function: Callable[[], _T]) -> _T:
        """Make requests.

        Neither the words of the library nor those of the server go on: both may quote a patient.
        """
        try:
            return function()
        except requests.HTTPError as exc:
            told = (
                f"answered HTTP {_status(exc)}; see its log, and what this node's user may do there"
            )
        except (*_NOT_DICOMWEB, UnreadableError) as exc:
            told = f"answered what is not DICOMweb ({type(exc).__name__}); check url"
        except requests.RequestException as exc:
            told = f"cannot be reached ({type(exc).__name__}); check archives: {self._at.name}"
        raise DestinationDownError(f"{self._url} {told}")

    def _get(self, url: str) -> Incoming | None:
        """Return an instance, None when the archive does not have it any more."""
        # not by the client, which reads each instance and would write it anew
        answer = self._session.get(url, headers={"Accept": _ACCEPT}, timeout=self._at.timeout_s)
        if answer.status_code in _GONE:
            return None
        answer.raise_for_status()
        for body in parts(answer.headers.get("Content-Type", ""), answer.content):
            return _incoming(body)
        raise UnreadableError("a multipart message without a part")


def _status(exc: requests.HTTPError) -> int:
    return 0 if exc.response is None else exc.response.status_code


def parts(content_type: str, content: bytes) -> Iterator[memoryview]:
    """Yield the bodies of a multipart message (RFC 2046 5.1), of another one its only body.

    Raises
    ------
    UnreadableError
        When it is not what its type says.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if boundary is None:
        yield memoryview(content)
        return
    line = b"--" + boundary.encode("latin-1")
    at = content.find(line)
    if at < 0:
        raise UnreadableError("a multipart message without its boundary")
    while content[at + len(line) : at + len(line) + 2] != b"--":
        begin = content.find(b"\r\n\r\n", at)
        end = content.find(b"\r\n" + line, begin + 2)
        if begin < 0 or end < 0:
            raise UnreadableError("a multipart message that breaks off")
        yield memoryview(content)[begin + 4 : end]
        at = end + 2


def _incoming(content: memoryview) -> Incoming:
    meta = file_meta_of(bytes(content[:HEAD_BYTES]))
    return Incoming(
        sop_class_uid=meta.media_storage_sop_class_uid,
        sop_instance_uid=meta.media_storage_sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        fragments=[content[meta.offset :]],
    )


def _study(uid: str, item: _Item) -> FoundStudy:
    count = _text(item, "NumberOfStudyRelatedInstances")
    return FoundStudy(
        study_instance_uid=uid,
        instances=int(count) if count.isdecimal() else None,
        date=_text(item, "StudyDate"),
        time=_text(item, "StudyTime"),
        description=_text(item, "StudyDescription"),
        modalities=frozenset(_texts(item, "ModalitiesInStudy")),
    )


def _text(item: _Item, keyword: str) -> str:
    return next(iter(_texts(item, keyword)), "")


def _texts(item: _Item, keyword: str) -> list[str]:
    """Return the values of an attribute (PS3.18 F.2); some servers write null for an empty one."""
    values = item.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or []
    return [text for text in (str(value).strip() for value in values if value is not None) if text]
