"""What the node owes its destinations: one row for each object and destination, on disk.

A row is `WAITING` until the destination said yes (`DELIVERED`) or said never (`DEAD`); where it is
asked for storage commitment, it is `STORED` between the object's arrival and that yes. Its due time
is the retry timer, so a restart forgets nothing. Which images were analysed by which models stands
here too, written in the same transaction as the results: after a crash a study is either analysed
with all its results owed, or not analysed.
"""

from dicom_node.outbox.capabilities import CapabilityRow
from dicom_node.outbox.fallback import Rungs
from dicom_node.outbox.lacking import LackingRow
from dicom_node.outbox.outages import Outage
from dicom_node.outbox.outbox import Outbox
from dicom_node.outbox.promises import LEASE_S, Refusal, Settled
from dicom_node.outbox.rows import UNSETTLED, Backlog, DeliveryRow, DeliveryState, Errand
from dicom_node.outbox.stills import MergedRow, PartRow, Settlement
from dicom_node.outbox.trail import AnswerRow, HarvestedRow, PassedRow, RejectionRow, Said

__all__ = [
    "LEASE_S",
    "UNSETTLED",
    "AnswerRow",
    "Backlog",
    "CapabilityRow",
    "DeliveryRow",
    "DeliveryState",
    "Errand",
    "HarvestedRow",
    "LackingRow",
    "MergedRow",
    "Outage",
    "Outbox",
    "PartRow",
    "PassedRow",
    "Refusal",
    "RejectionRow",
    "Rungs",
    "Said",
    "Settled",
    "Settlement",
]
