"""Start the parts, watch them, stop them.

``serve`` is the supervisor: it owns the data folder and holds one worker and the receivers as child
processes. A child that dies is started again; a child whose supervisor dies stops by itself, so
that the next start finds a free port.
"""

from dicom_node.node.layout import Layout, open_inbox
from dicom_node.node.serve import serve
from dicom_node.node.worker import open_parts

__all__ = ["Layout", "open_inbox", "open_parts", "serve"]
