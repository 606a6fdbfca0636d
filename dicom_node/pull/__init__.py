"""Questions to a PACS, and studies from it."""

from dicom_node.pull.count import count_instances
from dicom_node.pull.lull import Lull, count_study
from dicom_node.pull.move import Moved, move_study
from dicom_node.pull.takeover import take_over_study

__all__ = [
    "Lull",
    "Moved",
    "count_instances",
    "count_study",
    "move_study",
    "take_over_study",
]
