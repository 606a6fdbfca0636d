"""Where exports for training lie: a folder, or a part of an S3-compatible bucket, by one address.

A place holds objects by key. An object is there whole or not at all, and what is written later
replaces it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from dicom_node.errors import ConfigError, TemporaryError

SCHEME: Final = "s3://"
#: Bucket and prefix; no user, password, query or "..": secrets come from the environment.
_ADDRESS: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9_=+,./-]*))?"
)


class Place(Protocol):
    """Objects by key, of which a key may have folders in it."""

    @property
    def address(self) -> str:
        """How a person names it."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin so, sorted."""

    def old_keys(self) -> Iterator[str]:
        """Yield the keys of which a version is kept, those of deleted objects among them."""

    def covered_keys(self) -> Iterator[str]:
        """Yield the key of each version that no reader is given any more."""

    @property
    def is_there(self) -> bool:
        """Whether the place is there at all."""

    def read(self, key: str) -> bytes | None:
        """Return an object, None where there is none."""

    def part(self, key: str, offset: int, count: int) -> bytes | None:
        """Return so many bytes of an object, None where there is none."""

    def fetch(self, key: str, path: Path) -> bool:
        """Copy an object into a file that is there, and say whether there is such an object."""

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, of bytes or of a file; the file may be moved."""

    def delete(self, prefix: str) -> int:
        """Delete all objects below a prefix, every version of them; return how many there were.

        Raises
        ------
        TemporaryError
            When one of them is still there.
        """


def is_url(where: str | Path) -> bool:
    """Whether this names a bucket and no folder."""
    # whoever mistypes the slashes means no folder of this name
    return str(where).lower().startswith("s3:")


def checked(where: str) -> str:
    """Return an address as it was given, if it can be one.

    Raises
    ------
    ConfigError
        When it is no ``s3://BUCKET/PREFIX`` and no folder; says nothing of what it holds, which
        may be a password.
    """
    if not where.strip() or ("://" in where and not is_url(where)):
        raise ConfigError("an export lies in a folder or below s3://BUCKET/PREFIX; name one")
    if is_url(where):
        found = _ADDRESS.fullmatch(where)
        if found is None or ".." in (found["prefix"] or ""):
            raise ConfigError(
                "an address is s3://BUCKET/PREFIX: small letters, digits, dots and hyphens, then "
                "letters, digits and _=+,./-; keys come from the environment, never from here"
            )
    return where


def place(where: str | Path) -> Place:
    """Return the place of an address.

    Raises
    ------
    ConfigError
        When it is none, or this installation cannot speak S3.
    """
    where = checked(str(where))
    if not where.startswith(SCHEME):
        return Folder(Path(where))
    found = _ADDRESS.fullmatch(where)
    if found is None:  # checked above
        raise ConfigError("an address is s3://BUCKET/PREFIX")
    bucket: Place = import_module("dicom_node.store.bucket").Bucket(
        found["bucket"], (found["prefix"] or "").strip("/")
    )
    return bucket


class Folder:
    """A place on a disk.

    Parameters
    ----------
    path : Path
        Made when the first object is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.path)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin so, sorted."""
        names = (path.relative_to(self.path).as_posix() for path in self._files())
        yield from sorted(name for name in names if name.startswith(prefix))

    def _files(self) -> Iterator[Path]:
        """Yield what is no folder; a link to one is none."""

        def closed(error: OSError) -> None:
            raise TemporaryError(
                f"{error.filename}: cannot be listed ({error.strerror}); see to it and run the "
                "command again"
            ) from None

        for place, folders, names in os.walk(self.path, onerror=closed) if self.is_there else ():
            links = (name for name in folders if (Path(place) / name).is_symlink())
            yield from (Path(place) / name for name in (*names, *links))

    @property
    def is_there(self) -> bool:
        """Whether anything was written, or the disk of the folder is there."""
        return self.path.exists()

    def old_keys(self) -> Iterator[str]:
        """Yield nothing: a folder keeps no versions."""
        return iter(())

    def covered_keys(self) -> Iterator[str]:
        """Yield nothing, as `old_keys`."""
        return iter(())

    def read(self, key: str) -> bytes | None:
        """Return an object, None where there is none."""
        try:
            return (self.path / key).read_bytes()
        except FileNotFoundError:
            return None

    def part(self, key: str, offset: int, count: int) -> bytes | None:
        """Return so many bytes of an object, None where there is none."""
        try:
            with (self.path / key).open("rb") as file:
                file.seek(offset)
                return file.read(count)
        except FileNotFoundError:
            return None

    def fetch(self, key: str, path: Path) -> bool:
        """Copy an object into a file that is there, and say whether there is such an object."""
        try:
            shutil.copyfile(self.path / key, path)
        except FileNotFoundError:
            return False
        return True

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, of bytes or of a file; the file may be moved."""
        path = self.path / key
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if isinstance(content, Path):
                shutil.move(content, part)
            else:
                part.write_bytes(content)
            sync(part)
            part.replace(path)
            sync(path.parent)
        except OSError as exc:
            with suppress(OSError):
                part.unlink()
            raise TemporaryError(
                f"{path}: cannot be written ({exc.strerror}); free space or name another folder"
            ) from None

    def delete(self, prefix: str) -> int:
        """Delete all objects below a prefix; return how many there were."""
        found = list(self.keys(prefix))
        for key in found:
            try:
                (self.path / key).unlink(missing_ok=True)
            except OSError as exc:
                raise TemporaryError(
                    f"{self.path / key}: cannot be deleted ({exc.strerror}); run the command again"
                ) from None
        for folder in {(self.path / key).parent for key in found} - {self.path}:
            if not any(folder.iterdir()):
                folder.rmdir()
        return len(found)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
