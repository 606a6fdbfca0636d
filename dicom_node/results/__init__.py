"""From analyses to DICOM objects: SEG and SR, checked before they may leave.

One SEG for each segmentation model that found something in a cine, or in the stills of a series;
one SR for each image that sums up every model; each in every form that some destination takes. Each
object is alone in its series but for its own later versions: viewers show only the last of several.
Presentation state and Secondary Capture show the same to readers that know neither SEG nor SR.
"""

from dicom_node.results.failure import write_results_or_failure
from dicom_node.results.installation import Installation, installation_of, open_installation
from dicom_node.results.overlays import Overlays, classes_of, write_overlays
from dicom_node.results.stills import Part, stills_uid, write_still, write_stills
from dicom_node.results.uids import derived_uid
from dicom_node.results.write import write_results

__all__ = [
    "Installation",
    "Overlays",
    "Part",
    "classes_of",
    "derived_uid",
    "installation_of",
    "open_installation",
    "stills_uid",
    "write_overlays",
    "write_results",
    "write_results_or_failure",
    "write_still",
    "write_stills",
]
