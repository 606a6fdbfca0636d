"""How the node refuses N-ACTION, N-CREATE, N-SET and N-EVENT-REPORT, with the clause for it."""

from typing import Final

from dicom_node.receive.statuses import Status

NO_ROOM: Final = Status(
    code=0x0213,
    comment="Resource limitation: no room in the inbox",
    clause="PS3.7 10.1.4.1.10, 10.1.5.1.6",
)
FAILED: Final = Status(
    code=0x0110,
    comment="Processing failure: not readable or not kept",
    clause="PS3.7 10.1.4.1.10, 10.1.5.1.6",
)
NO_SUCH_INSTANCE: Final = Status(
    code=0x0112,
    comment="Not the Storage Commitment Push Model SOP Instance",
    clause="PS3.4 J.3.5, PS3.7 10.1.4.1.10",
)
NO_SUCH_ACTION: Final = Status(
    code=0x0123, comment="The only action type is 1", clause="PS3.4 J.3.2, PS3.7 10.1.4.1.10"
)
NO_SUCH_EVENT: Final = Status(
    code=0x0113, comment="The event types are 1 and 2", clause="PS3.4 J.3.3, PS3.7 10.1.1.1.8"
)
INVALID_ARGUMENT: Final = Status(
    code=0x0115,
    comment="Transaction UID or Referenced SOP Sequence is not usable",
    clause="PS3.4 J.3.2.1.1, PS3.7 10.1.4.1.10",
)
NOT_AUTHORIZED: Final = Status(
    code=0x0124,
    comment="No port to report to is configured for this AE title",
    clause="PS3.4 J.3.3, PS3.7 10.1.4.1.10",
)
NO_INSTANCE_UID: Final = Status(
    code=0x0117, comment="SOP Instance UID is missing or no UID", clause="PS3.7 10.1.5.1.6"
)
MISSING_ATTRIBUTE: Final = Status(
    code=0x0120, comment="An attribute of type 1 is missing", clause="PS3.7 10.1.5.1.6"
)
INVALID_VALUE: Final = Status(
    code=0x0106,
    comment="An attribute has a value that it may not have",
    clause="PS3.7 10.1.5.1.6, 10.1.3.1.9",
)
NOTICE_STATUSES: Final = (
    NO_ROOM,
    FAILED,
    NO_SUCH_INSTANCE,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT,
    INVALID_ARGUMENT,
    NOT_AUTHORIZED,
    NO_INSTANCE_UID,
    MISSING_ATTRIBUTE,
    INVALID_VALUE,
)
