"""The register of studies, series and instances: it remembers, others decide."""

from dicom_node.index.index import Index
from dicom_node.index.rows import Arrival, Outcome, StudyRow, StudyState

__all__ = ["Arrival", "Index", "Outcome", "StudyRow", "StudyState"]
