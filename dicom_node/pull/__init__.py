"""Questions to a PACS."""

from dicom_node.pull.count import count_instances
from dicom_node.pull.lull import Lull, count_study

__all__ = ["Lull", "count_instances", "count_study"]
