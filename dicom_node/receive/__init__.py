"""The receiving Application Entity: C-ECHO and C-STORE as SCP, straight into the inbox."""

from dicom_node.receive.scp import run_receiver

__all__ = ["run_receiver"]
