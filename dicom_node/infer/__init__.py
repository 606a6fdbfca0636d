"""Models on frames: which bundles fit an instance, and what they say in source pixels."""

from dicom_node.infer.analyse import analyse
from dicom_node.infer.choice import Role
from dicom_node.infer.models import Chosen, Model, Models, fingerprint

__all__ = ["Chosen", "Model", "Models", "Role", "analyse", "fingerprint"]
