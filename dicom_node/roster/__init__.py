"""The nodes that share a PostgreSQL server."""

from dicom_node.roster.roster import Roster
from dicom_node.roster.rows import NodeRow, OwedStudy

__all__ = ["NodeRow", "OwedStudy", "Roster"]
