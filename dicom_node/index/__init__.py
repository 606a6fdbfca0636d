"""The register of studies, series and instances: it remembers, others decide."""

from dicom_node.index.index import Index
from dicom_node.index.rows import (
    Arrival,
    CommitmentRow,
    CommitmentState,
    CompletionRow,
    CountRow,
    Outcome,
    StudyRow,
    StudyState,
    Word,
)

__all__ = [
    "Arrival",
    "CommitmentRow",
    "CommitmentState",
    "CompletionRow",
    "CountRow",
    "Index",
    "Outcome",
    "StudyRow",
    "StudyState",
    "Word",
]
