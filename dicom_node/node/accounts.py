"""The books of the inbox: what a dead receiver left is swept and counted, so that they balance."""

from collections.abc import Iterable

from dicom_node import log, metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.notices import open_notices


def settle(inbox: Inbox, own: Page, receivers: Iterable[Page] = ()) -> int:
    """Sweep what dead receivers left, and count each file as a transfer that was aborted.

    A receiver counts a transfer when it ends; what it had begun when it died lies in the inbox, and
    so does what it was about to rename, which it may have counted as received. Its notices are no
    transfers: they are swept, and stand in the log alone.

    Parameters
    ----------
    inbox : Inbox
        Others may receive meanwhile.
    own : Page
        The supervisor's.
    receivers : iterable of Page
        Theirs, dead or alive.

    Returns
    -------
    int
        How many files were swept.
    """
    swept: list[str] = []
    counts = {"leftovers_swept": 0, "notices_swept": 0}
    try:
        swept = inbox.sweep_ids()
        counts["leftovers_swept"] = len(swept)
        counts["notices_swept"] = open_notices(inbox).sweep()
    except OSError as exc:  # a folder that cannot be listed now is swept after the next death
        log.get("node").error("leftovers not swept", cause=type(exc).__name__)
    pages = tuple(receivers)
    uncounted = [
        file_id
        for file_id in swept
        if not any(page.has_counted(metrics.RECEIVED, file_id) for page in pages)
    ]
    own.add(metrics.RECEIVED, by=len(uncounted))
    own.add(metrics.ABORTED, by=len(swept))
    log.get("node").warning("leftovers swept", counts=counts)
    return len(swept)
