"""A bundle's manifest without its graph, for who wants to read the card and runs no model."""

from pathlib import Path
from typing import Final

from dicom_node.bundle.manifest import Manifest
from dicom_node.bundle.opened import MANIFEST_KEY, checked_digest, parsed
from dicom_node.errors import BundleError

#: ``StringStringEntryProto`` of onnx.proto: field 2, the value, is a string.
_VALUE: Final = 0x12
#: Bits of a number in a byte of protobuf; the highest one says that more follow.
_BITS: Final = 7


def manifest_of(path: Path) -> Manifest:
    """Read the manifest of a bundle whose bytes fit its digest; nothing is run.

    Raises
    ------
    BundleError
        When the file carries no manifest, or its digest does not fit its bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"{path.name}: cannot be read ({exc.strerror})") from None
    recorded = checked_digest(path.name, content)
    manifest = parsed(path.name, _text(content))
    if manifest.digest != recorded:
        raise BundleError(f"{path.name}: its manifest has no digest; export it again")
    return manifest


def _text(content: bytes) -> str | None:
    """Return what stands under the manifest's key, None where nothing does."""
    key = MANIFEST_KEY.encode()
    start = content.rfind(key)
    at = start + len(key)
    if start < 0 or content[at : at + 1] != bytes([_VALUE]):
        return None
    length = shift = 0
    for place, byte in enumerate(content[at + 1 : at + 11], start=at + 2):
        length |= (byte & 0x7F) << shift
        shift += _BITS
        if byte < 1 << _BITS:
            return content[place : place + length].decode("utf-8", "replace")
    return None
