"""What a DICOMweb server said to a request, and what that means (PS3.18 8.5, 10.5.3, Annex I)."""

import json
from dataclasses import dataclass, field
from typing import Final

import requests
from pydicom import Dataset
from urllib3.exceptions import NewConnectionError

from dicom_node.deliver.outcome import UNKNOWN, Answer, Verdict, judge
from dicom_node.header import BROKEN_BYTES

_Rows = tuple[tuple[int, int, Verdict, str, str], ...]
#: First matching row speaks (low, high, verdict, reason, clause of PS3.18).
HTTP_STATUSES: Final[_Rows] = (
    (200, 204, Verdict.DELIVERED, "", "10.5.3.1"),
    (300, 399, Verdict.PERMANENT, "it is somewhere else; correct url", "8.5"),
    (400, 400, Verdict.PERMANENT, "the destination cannot understand the request", "10.5.3.1"),
    # a token may be in the middle of its renewal
    (401, 401, Verdict.TEMPORARY, "the token or the password is wrong or has ended", "8.5"),
    (403, 403, Verdict.PERMANENT, "not allowed; let this user store there", "8.5"),
    (404, 405, Verdict.PERMANENT, "no STOW-RS there; correct url", "8.5"),
    (408, 408, Verdict.TEMPORARY, "the request took too long", "8.5"),
    (409, 409, Verdict.PERMANENT, "the destination refused the object; see its log", "10.5.3.1"),
    (413, 413, Verdict.PERMANENT, "too large; raise the limit of the destination", "8.5"),
    (415, 415, Verdict.PERMANENT, "the destination takes no application/dicom", "10.5.3.1"),
    (429, 429, Verdict.TEMPORARY, "too many requests for the destination", "8.5"),
    (400, 499, Verdict.PERMANENT, "the destination refused the request; see its log", "8.5"),
    (501, 501, Verdict.PERMANENT, "the destination has no STOW-RS", "8.5"),
    (500, 599, Verdict.TEMPORARY, "the destination failed; see its log", "8.5"),
)
#: An answer to several objects that may be about one of them: then each goes alone.
_ABOUT_ONE: Final = frozenset({400, 409, 413, 415, 422})
_JSON: Final = frozenset({"application/dicom+json", "application/json"})


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a server said to one request."""

    answer: Answer
    http_status: int | None = None
    #: Failure Reason by SOP Instance UID
    failed: dict[str, int | None] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    @property
    def is_about_one(self) -> bool:
        """Whether it may be about one object of several: each is then better sent alone."""
        return self.http_status in _ABOUT_ONE and not self.failed

    def of(self, sop_instance_uid: str) -> Answer:
        """Return what was said of one object."""
        if sop_instance_uid in self.failed:
            return _of_failed(self.failed[sop_instance_uid], self.answer)
        if self.http_status == 202 and sop_instance_uid not in self.kept:
            reason = "HTTP 202, and the answer does not name the object; see the destination's log"
            return Answer(verdict=Verdict.TEMPORARY, reason=reason)
        return self.answer


def silence(exc: requests.RequestException) -> Answer:
    """Return what it means that no answer came."""
    cause = getattr(exc.args[0], "reason", None) if exc.args else None
    is_down = True
    if isinstance(exc, requests.exceptions.SSLError):
        reason = "no TLS; correct url or ca, or renew the certificate there"
    elif isinstance(exc, requests.ConnectTimeout) or isinstance(cause, NewConnectionError):
        reason = "no connection; check url, and that the destination runs"
    elif isinstance(exc, requests.Timeout):
        reason, is_down = "no answer in time", False
    else:
        reason, is_down = "the destination dropped the connection", False
    return Answer(verdict=Verdict.TEMPORARY, reason=reason, is_down=is_down)


def said_of(response: requests.Response) -> Said:
    """Return what an answer says."""
    found = _body(response)
    answer = _of_http(response.status_code)
    try:
        failed = {
            str(item.ReferencedSOPInstanceUID): item.get("FailureReason")
            for item in found.get("FailedSOPSequence", [])
        }
        kept = [
            str(item.ReferencedSOPInstanceUID) for item in found.get("ReferencedSOPSequence", [])
        ]
    except BROKEN_BYTES:
        return Said(answer=answer, http_status=response.status_code)
    return Said(
        answer=answer, http_status=response.status_code, failed=failed, kept=frozenset(kept)
    )


def _body(response: requests.Response) -> Dataset:
    """Return the Store Instances Response Module (PS3.18 Annex I), empty where there is none."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind not in _JSON:
        return Dataset()
    try:
        model = json.loads(response.content)
        return Dataset.from_json(model[0] if isinstance(model, list) else model)
    except BROKEN_BYTES:
        return Dataset()


def _of_http(status: int) -> Answer:
    for low, high, verdict, reason, _ in HTTP_STATUSES:
        if low <= status <= high:
            words = f"HTTP {status}: {reason}" if reason else ""
            return Answer(verdict=verdict, reason=words)
    return Answer(verdict=Verdict.TEMPORARY, reason=f"HTTP {status}: {UNKNOWN}")


def _of_failed(reason: int | None, whole: Answer) -> Answer:
    """Return what a Failure Reason means; it is never a success, except for a duplicate."""
    if reason is None:
        refused = whole.verdict is Verdict.PERMANENT
        return whole if refused else Answer(verdict=Verdict.TEMPORARY, reason=UNKNOWN)
    answer = judge(int(reason))
    if answer.verdict is Verdict.DELIVERED and reason != 0x0111:
        return Answer(verdict=Verdict.TEMPORARY, status=int(reason), reason=UNKNOWN)
    return answer
