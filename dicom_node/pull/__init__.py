"""Questions to a PACS."""

from dicom_node.pull.count import count_instances

__all__ = ["count_instances"]
