"""What ``dicom-node check`` says of the clocks of others: web servers tell the time (RFC 9110)."""

import time
from email.utils import parsedate_to_datetime
from typing import Final

from dicom_node.destinations import DicomwebDestination
from dicom_node.errors import ConfigError

#: Dates in answers are of whole seconds, and NTP keeps clocks much closer than this.
MOST_SKEW_S: Final = 5.0


def doubt_of(destination: DicomwebDestination) -> str:
    """Hold the node's clock against that of a destination which answers.

    Returns
    -------
    str
        "" when they agree, or it does not tell the time.
    """
    skew_s = _skew_s(destination)
    if skew_s is None or abs(skew_s) <= MOST_SKEW_S:
        return ""
    side = "ahead of" if skew_s > 0 else "behind"
    return (
        f"; warning: its clock is {abs(skew_s):.0f} s {side} the node's; let NTP keep both right, "
        "for times in results and logs are compared"
    )


def _skew_s(destination: DicomwebDestination) -> float | None:
    # only who has such a destination takes the time for it
    import requests  # noqa: PLC0415

    from dicom_node.deliver.web_session import open_session  # noqa: PLC0415

    try:
        with open_session(destination) as session:
            began = time.time()
            answer = session.get(
                f"{destination.url.rstrip('/')}/studies",
                params={"limit": "1"},
                timeout=destination.timeout_s,
            )
            ended = time.time()
        if "Age" in answer.headers:  # out of a cache, and of another time
            return None
        told = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ConfigError, requests.RequestException, ValueError):
        return None
    # the second that it names is not over; nearest to it of the time that the question took
    return told - min(max(told, began - 1), ended)
