"""Put a backup into an empty data folder, so that a node goes on there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.config import Config
from dicom_node.errors import ConfigError, PermanentError, TemporaryError
from dicom_node.node import backup_format as backups
from dicom_node.node.backup import copied
from dicom_node.node.locks import owned

#: What is not in its place yet lies here.
_PART: Final = "restoring"
#: Of whoever holds the empty folder.
_LOCKS: Final = ("node.lock",)


@dataclass(frozen=True, kw_only=True)
class KeySource:
    """From where the pseudonym key comes."""

    #: kept apart from the backup; None where the backup has it, or it is lost
    path: Path | None = None
    #: go on with a new one
    is_lost: bool = False


def restore(config: Config, folder: Path, key: KeySource) -> backups.About:
    """Put a backup into the data folder of a configuration.

    Parameters
    ----------
    config : Config
        Of the node that is to go on.
    folder : Path
        The backup.
    key : KeySource
        Of the pseudonym key.

    Raises
    ------
    ConfigError
        When the data folder is not empty, or the configuration is another node's.
    PermanentError
        When the backup is damaged, or the key is missing or another one.
    TemporaryError
        When the disk is full.
    """
    about = backups.read_about(folder)
    digests = backups.read_digests(folder, about)
    _must_fit(config, about)
    _must_have_key(about, key)
    data = config.node.data
    with owned(data):
        if found := sorted(path.name for path in data.iterdir() if path.name not in _LOCKS):
            raise ConfigError(
                f"node.data: {data} is not empty ({', '.join(found[:3])}): name an empty folder; "
                f"what is in '{_PART}' is of a restore that did not end, and can be removed"
            )
        try:
            _fill(folder, digests, data)
            if key.path is not None:
                copied(key.path, data / backups.KEY)
            os.sync()
        except OSError as exc:
            raise TemporaryError(
                f"the restore did not end ({exc.strerror}): see to the disk of {data}, remove "
                f"{data / _PART}, and begin again"
            ) from None
    return about


def _fill(folder: Path, digests: dict[str, str], data: Path) -> None:
    part = data / _PART
    for name, digest in digests.items():
        target = part / Path(name).relative_to(backups.DATA)
        _make_private(target.parent)
        try:
            found = copied(folder / name, target)
        except FileNotFoundError:
            found = ""
        if found != digest:
            raise PermanentError(
                f"{folder / name} is missing or damaged: nothing was restored; use another backup, "
                f"and remove {part}"
            )
    # nothing is in its place before everything is sound
    for path in sorted(part.iterdir()):
        path.rename(data / path.name)
    part.rmdir()


def _make_private(folder: Path) -> None:
    # with parents=True the parents would be open to all
    if not folder.exists():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700)


def _must_fit(config: Config, about: backups.About) -> None:
    if config.node.name != about.node:
        raise ConfigError(
            f"node.name: the backup is of {about.node!r}, not of {config.node.name!r}: its jobs "
            "go by that name"
        )
    if (config.database is not None) != about.jobs_elsewhere:
        where = "on a PostgreSQL server" if about.jobs_elsewhere else "in jobs.db"
        raise ConfigError(f"database: the jobs of the backup are {where}: set it as it was")


def _must_have_key(about: backups.About, key: KeySource) -> None:
    if about.has_key or not about.key_sha256 or key.is_lost:
        return
    if key.path is None:
        raise PermanentError(
            "the backup is without the pseudonym key: name its own copy with --key FILE; with "
            "--lost-key the node goes on with a new one, and knows no patient of the store again"
        )
    try:
        is_the_key = backups.sha256_of(key.path) == about.key_sha256
    except OSError as exc:
        raise PermanentError(f"{key.path} cannot be read ({exc.strerror})") from None
    if not is_the_key:
        raise PermanentError(f"{key.path} is not the key of this backup: name the right one")
