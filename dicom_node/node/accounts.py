"""The books of the inbox: what a dead receiver left is swept and counted, so that they balance."""

from dicom_node import log, metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page


def settle(inbox: Inbox, own: Page) -> int:
    """Sweep what dead receivers left, and count each file as a transfer that was aborted.

    A receiver counts a transfer when it ends; what it had begun when it died lies in the inbox.

    Parameters
    ----------
    inbox : Inbox
        Others may receive meanwhile.
    own : Page
        The supervisor's.

    Returns
    -------
    int
        How many files were swept.
    """
    swept = inbox.sweep()
    own.add(metrics.RECEIVED, by=swept)
    own.add(metrics.ABORTED, by=swept)
    log.get("node").warning("leftovers swept", counts={"leftovers_swept": swept})
    return swept
