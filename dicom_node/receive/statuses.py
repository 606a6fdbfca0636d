"""What the node answers to a C-STORE, with the clause that says so.

Data Set Does Not Match SOP Class (0xA900) and the coded 0xCxxx are absent on purpose: the
receiver never decodes a data set; one that is not what its command said goes into quarantine.
An unlisted caller gets no status: its association is rejected (PS3.8 9.3.4).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Status:
    """A DIMSE status of C-STORE."""

    #: Status (0000,0900)
    code: int
    #: Error Comment (0000,0902): at most 64 characters, never a patient's data
    comment: str
    clause: str


SUCCESS: Final = Status(code=0x0000, comment="", clause="PS3.7 9.1.1.1.9, PS3.4 B.2.3")

#: No room: the disk, its low-water mark or the quota. The sender should try again later.
OUT_OF_RESOURCES: Final = Status(
    code=0xA700, comment="Out of resources: no room in the inbox", clause="PS3.4 B.2.3"
)

#: The disk failed in another way, or the node has a fault.
PROCESSING_FAILURE: Final = Status(
    code=0x0110, comment="Processing failure: could not be stored", clause="PS3.7 9.1.1.1.9"
)

#: Affected SOP Instance UID (0000,1000) is missing or no UID.
INVALID_SOP_INSTANCE: Final = Status(
    code=0x0117, comment="Affected SOP Instance UID is not a UID", clause="PS3.7 9.1.1.1.9"
)

#: Affected SOP Class UID (0000,0002) is not the abstract syntax of the presentation context.
SOP_CLASS_NOT_SUPPORTED: Final = Status(
    code=0x0122,
    comment="SOP class is not that of the presentation context",
    clause="PS3.7 9.1.1.1.9",
)

#: A C-STORE request without a data set, or with an empty one.
CANNOT_UNDERSTAND: Final = Status(
    code=0xC000, comment="Cannot understand: no data set", clause="PS3.4 B.2.3"
)

STATUSES: Final = (
    SUCCESS,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    INVALID_SOP_INSTANCE,
    SOP_CLASS_NOT_SUPPORTED,
    CANNOT_UNDERSTAND,
)
