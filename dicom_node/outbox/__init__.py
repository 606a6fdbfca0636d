"""What the node owes its destinations: one row for each object and destination, on disk.

A row is `WAITING` until the destination said yes (`DELIVERED`) or said never (`DEAD`). Its due time
is the retry timer, so a restart forgets nothing. Which images were analysed by which models stands
here too, written in the same transaction as the results: after a crash a study is either analysed
with all its results owed, or not analysed.
"""

from dicom_node.outbox.capabilities import CapabilityRow
from dicom_node.outbox.outages import Outage
from dicom_node.outbox.outbox import LEASE_S, Outbox
from dicom_node.outbox.rows import Backlog, DeliveryRow, DeliveryState, Errand
from dicom_node.outbox.stills import MergedRow, PartRow, Settlement
from dicom_node.outbox.trail import AnswerRow, HarvestedRow, PassedRow, RejectionRow, Said

__all__ = [
    "LEASE_S",
    "AnswerRow",
    "Backlog",
    "CapabilityRow",
    "DeliveryRow",
    "DeliveryState",
    "Errand",
    "HarvestedRow",
    "MergedRow",
    "Outage",
    "Outbox",
    "PartRow",
    "PassedRow",
    "RejectionRow",
    "Said",
    "Settlement",
]
