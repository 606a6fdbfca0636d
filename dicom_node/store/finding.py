"""One thing that an audit found; see `dicom_node.store.audit`."""

import re
from dataclasses import dataclass
from typing import Final

#: What names a frame, a mask or a volume.
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that should not be in the store."""

    #: table, column and row, or a file's place in the folder
    where: str
    #: never quotes what was found
    what: str
