"""UIDs that follow from what they name, so that a retry makes the same object."""

import uuid
from typing import Final

#: Part of every UID below; raised when objects of the same inputs come to differ in content.
REVISION: Final = "2"
_NAMESPACE: Final = uuid.UUID("6f0c6a4e-6a3b-5d43-9a2e-0d6a2f5f6b11")


def derived_uid(*parts: str) -> str:
    """Return the UID of the thing that `parts` describe, below root 2.25 (PS3.5 B.2).

    Parameters
    ----------
    *parts : str
        What the thing is, first its kind; the same parts give the same UID on every machine.
    """
    name = "\0".join((REVISION, *parts))
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"
