"""Servers of the tests come down when their associations have ended, not in the middle of it."""

from pynetdicom import AE

ENDING_S = 10.0  # a rejected or released association ends once its peer closes the line
HELD_OPEN_S = 0.5  # one that a test left open is aborted after this time


def shut_down(ae: AE) -> None:
    """Let the associations of a server end, then shut it down.

    A requester goes on when it has read the rejection or the release response; the server is in
    state 13 then, where pynetdicom's abort raises in the thread of its upper layer (PS3.8, table
    9-10 has no A-ABORT request in it).
    """
    for association in ae.active_associations:
        association.join(HELD_OPEN_S if association.is_established else ENDING_S)
    ae.shutdown()
