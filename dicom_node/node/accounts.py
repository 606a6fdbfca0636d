"""The books of the inbox: what a dead receiver left is swept and counted, so that they balance."""

from collections.abc import Sequence

from dicom_node import log, metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page


def in_flight(page: Page) -> int:
    """Return how many instances a receiver began and has not ended."""
    ended = (metrics.STORED, metrics.REFUSED, metrics.ABORTED)
    return round(page.get(metrics.RECEIVED) - sum(page.get(metric) for metric in ended))


def settle(inbox: Inbox, pages: Sequence[Page]) -> int:
    """Sweep what dead receivers left, and end what they had begun on their pages.

    What lies unfinished in the inbox was aborted; what a receiver had begun and is not there was
    durable already when it died, and waits to be registered.

    Parameters
    ----------
    inbox : Inbox
    pages : sequence of Page
        Of the receivers that are dead; others may receive meanwhile.

    Returns
    -------
    int
        How many files were swept.
    """
    swept = inbox.sweep()
    left = swept
    for page in pages:
        begun = in_flight(page)
        aborted = min(left, begun)
        left -= aborted
        page.add(metrics.ABORTED, by=aborted)
        page.add(metrics.STORED, by=begun - aborted)
    log.get("node").warning("leftovers swept", counts={"leftovers_swept": swept})
    return swept
