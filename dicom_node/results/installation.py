"""Which node wrote a result."""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from dicom_node import __version__
from dicom_node.errors import PermanentError


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The node as equipment (PS3.3 C.7.5.1) and as observer (PS3.16 TID 1004)."""

    #: of this installation, the same as long as its data folder lives
    uid: str
    #: Device Serial Number (0018,1000)
    serial: str
    software_version: str
    manufacturer: str = "dicom-node"


def open_installation(path: Path) -> Installation:
    """Read who this node is; the first call decides it for ever.

    Parameters
    ----------
    path : Path
        A JSON file in the node's data folder.

    Raises
    ------
    PermanentError
        When the file is there and is not what this function wrote.
    """
    if not path.exists():
        _create(path)
    try:
        known = uuid.UUID(json.loads(path.read_text("utf-8"))["installation"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PermanentError(
            f"{path} does not name an installation; restore it from a backup, or remove it and "
            "this node counts as a new one"
        ) from None
    return installation_of(f"2.25.{known.int}")


def installation_of(uid: str) -> Installation:
    """Return a node as one of several that are one device in their results.

    Parameters
    ----------
    uid : str
        `Installation.uid` of one of them.
    """
    known = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    return Installation(uid=uid, serial=known.hex[:12].upper(), software_version=__version__)


def _create(path: Path) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"installation": str(uuid.uuid4())}, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        # unlike a rename, a link does not replace what another process wrote first
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink()
