"""From analyses to DICOM objects: SEG and SR, checked before they may leave.

One SEG for each image and segmentation model that found something, one SR for each image that sums
up every model; each in every form that some destination takes. Each object is alone in its series
but for its own later versions: viewers show only the last of several. Presentation state and
Secondary Capture show the same to readers that know neither SEG nor SR.
"""

from dicom_node.results.failure import write_results_or_failure
from dicom_node.results.installation import Installation, installation_of, open_installation
from dicom_node.results.overlays import Overlays, classes_of
from dicom_node.results.write import write_results

__all__ = [
    "Installation",
    "Overlays",
    "classes_of",
    "installation_of",
    "open_installation",
    "write_results",
    "write_results_or_failure",
]
