"""Take a study over from a node that died: the PACS sends it here, where it is worked on."""

import time
from collections.abc import Callable
from typing import Final

from dicom_node import log
from dicom_node.config import Config
from dicom_node.errors import DestinationDownError
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.pull.move import move_study
from dicom_node.roster import OwedStudy, Roster

#: What the PACS sent is registered within this time, or the rest is not waited for.
REGISTERED_S: Final = 60.0
_LOOK_S: Final = 0.1


def take_over_study(
    index: Index,
    inbox: Inbox,
    config: Config,
    roster: Roster,
    study: OwedStudy,
    *,
    cancel: Callable[[OwedStudy], int],
) -> dict[str, int]:
    """Let the PACS send a study of a dead node here; what comes is worked on as any arrival.

    Parameters
    ----------
    index, inbox, config
        Of this node.
    roster : Roster
        Where it is noted whose study it is.
    study : OwedStudy
        Of the dead node.
    cancel : callable
        Cancels what the dead node had to do with the study; called once all of it is here.

    Returns
    -------
    dict of str to int
        How many instances the dead node had and are here; empty when no PACS sent the study.
    """
    at, ours = config.study.fetch_from, config.node.ae_title
    uid = study.study_instance_uid
    if at is None:
        return {}
    try:
        move_study(uid, at, calling_ae_title=ours, to_ae_title=ours)
    except DestinationDownError as exc:
        _leave(roster, study, str(exc))
        return {}
    here = _registered(index, inbox, study)
    counts = {"owed": study.instances, "here": here}
    if here < study.instances:
        reason = f"{at.ae_title} has {here} of its {study.instances} instances"
        _leave(roster, study, f"{reason}; start {study.name} again, or send the rest")
        return counts
    roster.take(study)
    counts["jobs cancelled"] = cancel(study)
    log.get("pull").info("study taken over", study_instance_uid=uid, what=study.name, counts=counts)
    return counts


def _leave(roster: Roster, study: OwedStudy, reason: str) -> None:
    roster.leave(study, reason=reason)
    log.get("pull").warning(
        "study not taken over",
        study_instance_uid=study.study_instance_uid,
        what=study.name,
        reason=reason,
    )


def _registered(index: Index, inbox: Inbox, study: OwedStudy) -> int:
    """Return how many instances are here, once what the PACS sent is registered."""
    deadline = time.monotonic() + REGISTERED_S
    while True:
        # in this order: what left the inbox in between is counted
        is_last = not inbox.waiting(1) or time.monotonic() > deadline
        row = index.study(study.study_instance_uid)
        here = 0 if row is None else row.instances
        if is_last or here >= study.instances:
            return here
        time.sleep(_LOOK_S)
