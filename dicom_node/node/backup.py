"""Copy all that a node has while it works, as it stands in one moment.

The databases are of one moment, as after a power cut; a store's catalogue that is on a server is of
a moment soon after it, and becomes a file. The files are taken afterwards: none that a
database names is ever changed or deleted, they only move on inside the inbox. So what a database
names is there, and what came since is adopted when the copy starts.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from dicom_node import __version__
from dicom_node.config import Config
from dicom_node.errors import ConfigError, PermanentError, TemporaryError
from dicom_node.node import backup_format as backups
from dicom_node.node.backup_names import must_be_sound, named_files
from dicom_node.node.freezing import copy, frozen
from dicom_node.node.layout import Layout
from dicom_node.store import places
from dicom_node.store.locks import adding
from dicom_node.store.moving import copy_to_file

#: A file moves along this way only: it is met where it lay, or where it went.
_INBOX: Final = ("inbox/new", "inbox/kept", "inbox/quarantine")
#: The worker deletes a notice once a database has it.
_NOTICES: Final = "notices/new"
_STORE: Final = "store"
#: Files of these folders are written once: another name for one is as good as a copy.
_WRITTEN_ONCE: Final = ("inbox/", "results/", "store/frames/")
#: Being written, or taken by itself, or made anew when it is needed.
_LEFT_OUT: Final = (*_INBOX, "inbox/tmp", _NOTICES, "notices/tmp", _STORE, "packs")
_LEFT_OUT_NAMES: Final = (
    *(backups.KEY, "inbox/bytes", "inbox/pulled"),
    # the backup has the catalogue itself
    *(f"{_STORE}/{name}" for name in places.NAMES),
)
_LEFT_OUT_SUFFIXES: Final = (".db", ".db-wal", ".db-shm", ".db-journal", ".lock", ".part")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was backed up."""

    about: backups.About
    #: files that share their bytes on the disk with the node's
    linked: int
    took_s: float


def back_up(config: Config, folder: Path, *, with_key: bool) -> Taken:
    """Back a node up into a new folder; the node may run.

    Parameters
    ----------
    config : Config
        Of the node.
    folder : Path
        Made here, or empty.
    with_key : bool
        Take the pseudonym key, too.

    Raises
    ------
    ConfigError
        When the folder is not empty or lies under ``node.data``, or no node ran there.
    TemporaryError
        When a disk is full, or a database cannot be read now.
    PermanentError
        When the copy is not the same as the original.
    """
    began, layout = time.monotonic(), Layout(config.node.data)
    _must_be_apart(folder, layout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # whatever the modes inside are: those of linked files are the node's
        folder.chmod(0o700)
        taking = _Taking(layout.data, folder / backups.DATA)
        with ExitStack() as stack:
            if layout.store.is_dir():
                # an erasure waits: it would delete what the catalogue's copy names
                stack.enter_context(adding(layout.store))
            taken_at = taking.moment()
            taking.catalogue()
            taking.store()
        taking.rest()
        key = layout.data / backups.KEY
        if with_key and key.exists():
            taking.take(key)
        gone = taking.complete()
        digests = taking.checked()
        size = sum((folder / name).stat().st_size for name in digests)
        about = backups.About(
            format=backups.FORMAT,
            version=__version__,
            taken_at=taken_at.isoformat(timespec="seconds"),
            node=config.node.name,
            jobs_elsewhere=config.database is not None,
            key_sha256=backups.sha256_of(key) if key.exists() else "",
            has_key=with_key and key.exists(),
            files=len(digests),
            bytes=size,
            gone=gone,
            manifest_sha256="",
        )
        backups.write(folder, digests, about)
        os.sync()
    except OSError as exc:
        raise TemporaryError(
            f"the backup did not end ({exc.strerror}): see to the disk of {folder}, remove it, and "
            "take another"
        ) from None
    took_s = time.monotonic() - began
    return Taken(about=backups.read_about(folder), linked=taking.linked, took_s=took_s)


class _Taking:
    """Files on their way from `data` to `target`."""

    def __init__(self, data: Path, target: Path) -> None:
        self._data, self._target = data, target
        #: as they were read, "" where the backup has the file itself
        self._digests: dict[str, str] = {}
        self._can_link = True

    @property
    def linked(self) -> int:
        """How many files are not copies, but the node's own."""
        return sum(not digest for digest in self._digests.values())

    def moment(self) -> datetime:
        """Take the databases and the notices of one moment, and return it."""
        databases = sorted(self._databases(), key=lambda path: (path.name == "jobs.db", path))
        at: list[datetime] = []

        def in_the_moment() -> None:
            at.append(datetime.now(UTC))
            for path in self._in(_NOTICES):
                self.take(path)

        with frozen(databases, meanwhile=in_the_moment) as snapshots:
            for path, snapshot in snapshots.items():
                target = self._place(path)
                copy(snapshot, target)
                must_be_sound(target)
                self._digests[self._name(path)] = backups.sha256_of(target)
        return at[0]

    def catalogue(self) -> None:
        """Take the store's catalogue from the server that has it, if one has."""
        if places.read(self._data / _STORE) is not None:
            target = self._place(self._data / _STORE / places.FILE)
            copy_to_file(self._data / _STORE, target)
            must_be_sound(target)
            self._digests[self._name(self._data / _STORE / places.FILE)] = backups.sha256_of(target)

    def store(self) -> None:
        """Take the files of the weak-label store."""
        for path in self._in(_STORE):
            self.take(path)

    def rest(self) -> None:
        """Take everything else but the key."""
        met: set[str] = set()
        for folder in _INBOX:
            for path in self._in(folder):
                if path.name not in met and self.take(path):
                    met.add(path.name)
        for path in self._in(""):
            self.take(path)

    def take(self, path: Path) -> bool:
        """Take a file; whether it was still there."""
        name, target = self._name(path), self._place(path)
        try:
            is_linked = name.startswith(_WRITTEN_ONCE) and self._link(path, target)
            self._digests[name] = "" if is_linked else copied(path, target)
        except FileNotFoundError:
            return False
        return True

    def complete(self) -> int:
        """Take what the databases name and nobody met; return how much of it is gone."""
        gone = 0
        for names in named_files(self._target):
            if any(name in self._digests for name in names):
                continue
            if not any(self.take(self._data / name) for name in names):
                gone += 1
        return gone

    def checked(self) -> dict[str, str]:
        """Read the copy anew; return the digests by path in the folder of the backup."""
        found = {}
        for name, digest in self._digests.items():
            found[f"{backups.DATA}/{name}"] = again = backups.sha256_of(self._target / name)
            if digest not in ("", again):
                raise PermanentError(
                    f"{self._target / name} reads other than it was written: use another disk"
                )
        return found

    def _databases(self) -> Iterator[Path]:
        is_elsewhere = places.read(self._data / _STORE) is not None
        out = ("packs/", f"{_STORE}/{places.FILE}") if is_elsewhere else ("packs/",)
        for pattern in ("*.db", "*/*.db"):
            found = (path for path in self._data.glob(pattern) if path.is_file())
            yield from (path for path in found if not self._name(path).startswith(out))

    def _in(self, folder: str) -> Iterator[Path]:
        """Yield the files of a folder, without those that are taken otherwise or not at all."""
        for place, folders, names in os.walk(self._data / folder):
            folders[:] = [one for one in folders if self._name(Path(place) / one) not in _LEFT_OUT]
            for name in names:
                path = Path(place) / name
                is_out = self._name(path) in _LEFT_OUT_NAMES or name.endswith(_LEFT_OUT_SUFFIXES)
                if not is_out and not name.startswith(f"{backups.KEY}."):
                    yield path

    def _name(self, path: Path) -> str:
        return path.relative_to(self._data).as_posix()

    def _place(self, path: Path) -> Path:
        target = self._target / self._name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _link(self, path: Path, target: Path) -> bool:
        if self._can_link:
            try:
                target.hardlink_to(path)
            except FileNotFoundError:
                raise
            except OSError:  # another disk, or one without links
                self._can_link = False
        return self._can_link


def copied(path: Path, target: Path) -> str:
    """Copy a file and its time of change; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    # never over a file that is there: it may be a second name of the node's own
    with path.open("rb") as source, target.open("xb") as file:
        target.chmod(0o600)
        for chunk in iter(partial(source.read, _CHUNK), b""):
            digest.update(chunk)
            file.write(chunk)
        found = os.fstat(source.fileno())
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    return digest.hexdigest()


def _must_be_apart(folder: Path, layout: Layout) -> None:
    if not layout.index.exists():
        raise ConfigError(
            f"node.data: no node ran in {layout.data} yet; start it with 'dicom-node serve'"
        )
    if folder.resolve().is_relative_to(layout.data.resolve()):
        raise ConfigError(f"{folder} lies under node.data: name a folder on another disk")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty: name a new folder for each backup")
