"""The books of the inbox: what a dead receiver left is swept and counted, so that they balance."""

from dicom_node import log, metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.notices import open_notices


def settle(inbox: Inbox, own: Page) -> int:
    """Sweep what dead receivers left, and count each file as a transfer that was aborted.

    A receiver counts a transfer when it ends; what it had begun when it died lies in the inbox. Its
    notices are no transfers: they are swept, and stand in the log alone.

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
    counts = {"leftovers_swept": 0, "notices_swept": 0}
    try:
        counts["leftovers_swept"] = inbox.sweep()
        counts["notices_swept"] = open_notices(inbox).sweep()
    except OSError as exc:  # a folder that cannot be listed now is swept after the next death
        log.get("node").error("leftovers not swept", cause=type(exc).__name__)
    swept = counts["leftovers_swept"]
    own.add(metrics.RECEIVED, by=swept)
    own.add(metrics.ABORTED, by=swept)
    log.get("node").warning("leftovers swept", counts=counts)
    return swept
