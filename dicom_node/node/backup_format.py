"""A folder that holds a backup: what is in it, and whether it is whole.

::

    backup.json       about it; written last, so that a folder with it is whole
    MANIFEST.sha256   a line a file, for ``sha256sum --check`` too
    data/             as under ``node.data``
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from dicom_node.errors import PermanentError

#: Of the layout of such a folder.
FORMAT: Final = 1
DATA: Final = "data"
KEY: Final = "pseudonym.key"
_ABOUT: Final = "backup.json"
_MANIFEST: Final = "MANIFEST.sha256"
#: Between digest and name, as sha256sum writes it.
_BETWEEN: Final = "  "


class About(BaseModel):
    """What stands in ``backup.json``."""

    model_config = ConfigDict(frozen=True)

    format: int
    #: of the program that wrote it
    version: str
    #: the moment that the databases show; UTC
    taken_at: str
    #: ``node.name``
    node: str
    #: whether the jobs lie on a PostgreSQL server, which is not in it
    jobs_elsewhere: bool
    #: what the pseudonym key can be recognised by, "" where the node had none
    key_sha256: str
    has_key: bool
    files: int
    bytes: int
    #: rows of the index whose file was gone already
    gone: int
    manifest_sha256: str


def write(folder: Path, digests: Mapping[str, str], about: About) -> None:
    """Write what makes a folder with files a backup, `about` without its manifest's digest."""
    lines = "".join(f"{digest}{_BETWEEN}{name}\n" for name, digest in sorted(digests.items()))
    (folder / _MANIFEST).write_text(lines, "utf-8")
    found = about.model_copy(update={"manifest_sha256": sha256_of(folder / _MANIFEST)})
    part = folder / f"{_ABOUT}.part"
    part.write_text(found.model_dump_json(indent=2) + "\n", "utf-8")
    for path in (folder / _MANIFEST, part):
        path.chmod(0o600)
    part.rename(folder / _ABOUT)


def read_about(folder: Path) -> About:
    """Read what a backup is.

    Raises
    ------
    PermanentError
        When the folder holds no whole backup, or one of a later version.
    """
    try:
        about = About.model_validate_json((folder / _ABOUT).read_bytes())
    except OSError:
        raise PermanentError(
            f"{folder} holds no whole backup: {_ABOUT} is written last; take another one"
        ) from None
    except ValidationError:
        raise PermanentError(f"{folder / _ABOUT} is damaged; take another backup") from None
    if about.format > FORMAT:
        raise PermanentError(
            f"{folder} has format {about.format}, this program knows {FORMAT}: use dicom-node "
            f"{about.version}, which wrote it"
        )
    return about


def read_digests(folder: Path, about: About) -> dict[str, str]:
    """Read the digests of the files, by path in the folder.

    Raises
    ------
    PermanentError
        When the manifest is not the one that was written.
    """
    path = folder / _MANIFEST
    if not path.is_file() or sha256_of(path) != about.manifest_sha256:
        raise PermanentError(f"{path} is missing or damaged; use another backup")
    lines = path.read_text("utf-8").splitlines()
    pairs = (line.split(_BETWEEN, 1) for line in lines)
    return {name: digest for digest, name in pairs}


def damaged(folder: Path, digests: Iterable[tuple[str, str]]) -> list[str]:
    """Return the files that are missing, or are not as their digests say."""
    return [name for name, digest in digests if not _is_sound(folder / name, digest)]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sound(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False
