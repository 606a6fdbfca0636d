"""Keyed pseudonyms: the same person is the same token, and nobody without the key can tell who.

A hash without a key would not do: identifiers are so few that all of them can be tried.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from dicom_node.errors import ConfigError

Kind = Literal[
    "patient",
    "study",
    "series",
    "instance",
    "description",
    "transducer",
    "refused",
    "reader",
    "object",
]
KEY_BYTES = 32
TOKEN_CHARACTERS = 32


class PseudonymKey:
    """The secret of a node.

    Parameters
    ----------
    secret : bytes
        32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def token(self, kind: Kind, value: str) -> str:
        """Return the pseudonym of a value, 32 hexadecimal digits (HMAC-SHA256, PS3.15 E)."""
        message = f"{kind}\0{value}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:TOKEN_CHARACTERS]


def open_key(path: Path) -> PseudonymKey:
    """Read a key, made on first use. Who loses it can add nothing to the patients in the store.

    Parameters
    ----------
    path : Path
        Outside the store, readable by its owner alone.

    Raises
    ------
    ConfigError
        When the file is no key, or others can read it.
    """
    if not path.exists():
        _create(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read the pseudonym key; run chmod 600 on it")
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise ConfigError(f"{path}: not a key of {KEY_BYTES} bytes; restore it from the backup")
    return PseudonymKey(secret)


def _create(path: Path) -> None:
    """Write a key as a whole or not at all; of several processes the first one wins."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    part = Path(name)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        path.hardlink_to(part)  # unlike a rename, this never replaces a key
    part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
