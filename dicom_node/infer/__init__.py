"""Models on frames: which bundles fit an instance, and what they say in source pixels."""

from dicom_node.infer.analyse import analyse
from dicom_node.infer.models import Models, fingerprint

__all__ = ["Models", "analyse", "fingerprint"]
