"""The way out: results to their destinations, one association a study."""

from dicom_node.deliver.commitment import report_commitments
from dicom_node.deliver.dimse import Outcome, Verdict, echo, send
from dicom_node.deliver.errand import run_errand
from dicom_node.deliver.probe import probe

__all__ = ["Outcome", "Verdict", "echo", "probe", "report_commitments", "run_errand", "send"]
