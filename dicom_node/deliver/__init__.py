"""The way out: results to their destinations, one association a study."""

from dicom_node.deliver.asking_commitment import lacks_commitment
from dicom_node.deliver.commitment import report_commitments
from dicom_node.deliver.committed import settle_notice
from dicom_node.deliver.dimse import echo, send
from dicom_node.deliver.errand import run_errand
from dicom_node.deliver.outcome import Outcome, Verdict
from dicom_node.deliver.probe import probe
from dicom_node.deliver.secure import shake_hands
from dicom_node.deliver.sending import ask

__all__ = [
    "Outcome",
    "Verdict",
    "ask",
    "echo",
    "lacks_commitment",
    "probe",
    "report_commitments",
    "run_errand",
    "send",
    "settle_notice",
    "shake_hands",
]
