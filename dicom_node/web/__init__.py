"""``/metrics`` and ``/healthz``: what a monitoring system asks the supervisor."""

from dicom_node.web.exposition import Reading, exposed_name, registry
from dicom_node.web.health import Check, Health, Look, Watch
from dicom_node.web.server import served

__all__ = ["Check", "Health", "Look", "Reading", "Watch", "exposed_name", "registry", "served"]
