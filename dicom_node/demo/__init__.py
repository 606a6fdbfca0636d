"""``dicom-node demo``: the whole way of the data on one machine."""

from dicom_node.demo.run import run_demo

__all__ = ["run_demo"]
