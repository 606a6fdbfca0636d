"""``/metrics`` and ``/healthz``: what a monitoring system asks the supervisor."""

from dicom_node.web.exposition import Reading, exposed_name, registry
from dicom_node.web.health import Check, Health, Look, examine
from dicom_node.web.server import served

__all__ = ["Check", "Health", "Look", "Reading", "examine", "exposed_name", "registry", "served"]
