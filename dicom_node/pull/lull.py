"""Ask the PACS, once in a lull, whether a study has all its instances."""

import random
from dataclasses import dataclass

from dicom_node import log
from dicom_node.backoff import Patience
from dicom_node.config import Config, CountAt, Destination
from dicom_node.errors import DestinationDownError
from dicom_node.index import CountRow, Index, StudyRow, StudyState
from dicom_node.outbox import Outbox
from dicom_node.pull.count import count_instances


@dataclass(frozen=True, kw_only=True)
class Lull:
    """A study for which nothing came for a while."""

    study_instance_uid: str
    #: when its last instance came, as ISO 8601: another arrival ends the lull
    last_received_at: str


def count_study(
    index: Index, outbox: Outbox, config: Config, lull: Lull, *, patience: Patience
) -> dict[str, int]:
    """Note how many instances the PACS counts, less the results that this node sent there.

    A PACS that is down is left alone for a while; the study waits for its quiet time then.

    Returns
    -------
    dict of str to int
        The count; empty when nobody was asked, or nobody answered.
    """
    at, row = config.study.count_at, index.study(lull.study_instance_uid)
    if at is None or row is None or not _is_in(row, lull) or not patience.is_over():
        return {}
    ours = set(outbox.delivered_to(lull.study_instance_uid, _names(config, at)))
    try:
        counted = count_instances(
            lull.study_instance_uid, at, calling_ae_title=config.node.ae_title
        )
    except DestinationDownError as exc:
        # jitter only spreads the questions, it guards nothing
        seconds = patience.failed(random.Random())  # noqa: S311
        log.get("pull").warning("not counted", reason=str(exc), seconds=round(seconds, 1))
        return {}
    patience.worked()
    if counted is None:
        return {}
    results = ours - index.find_all(sorted(ours)).keys()
    answer = CountRow(
        ae_title=at.ae_title,
        instances=counted - len(results),
        last_received_at=row.last_received_at,
    )
    index.evidence.note_count(lull.study_instance_uid, answer)
    return {"counted": counted, "results_of_ours": len(results)}


def _is_in(row: StudyRow, lull: Lull) -> bool:
    last_received_at = row.last_received_at.isoformat()
    return row.state is StudyState.OPEN and last_received_at == lull.last_received_at


def _names(config: Config, at: CountAt) -> list[str]:
    """Return the destinations that are the PACS which counts."""
    return [
        destination.name
        for destination in config.destinations
        if isinstance(destination, Destination)
        and (destination.ae_title, destination.host, destination.port)
        == (at.ae_title, at.host, at.port)
    ]
