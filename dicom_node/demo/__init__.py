"""``dicom-node demo``: the whole way of the data on one machine."""

from dicom_node.demo.run import TRAINING, has_training, run_demo

__all__ = ["TRAINING", "has_training", "run_demo"]
