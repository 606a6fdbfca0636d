"""What ``dicom-node harvest`` runs: it asks, and the node that runs takes what comes."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.archives import AnyArchive, DimseArchive, PaceSettings
from dicom_node.config import Config
from dicom_node.deliver.web_session import open_session
from dicom_node.errors import ConfigError, PermanentError, TemporaryError
from dicom_node.header import data_set_offset, read_header, text
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.node.layout import Layout, open_inbox
from dicom_node.node.locks import is_owned, locked
from dicom_node.pull.asked import Archive, Incoming, Keep, Wanted
from dicom_node.pull.dimse import DimsePuller
from dicom_node.pull.folder import Fate, Shelf, data_set_digest, take_folder
from dicom_node.pull.journal import Journal
from dicom_node.pull.pace import Pace
from dicom_node.pull.pulling import Desk, Pull
from dicom_node.pull.reconciled import Reconciled, Told
from dicom_node.pull.web import WebPuller
from dicom_node.receive import statuses
from dicom_node.receive.contexts import TRANSFER_SYNTAXES, is_storage
from dicom_node.receive.storing import StoreCommand, Storing


@dataclass
class Teller:
    """Says how far it is, and what it waits for."""

    tell: Callable[[Told], None]
    _last: Told | None = None

    def told(self, told: Told) -> None:
        """Pass on how far it is."""
        self._last = told
        self.tell(told)

    def waits(self, what: str) -> None:
        """Say what is waited for, "" when it goes on."""
        if self._last is not None:
            self.tell(replace(self._last, waits_for=what))


def archive_of(config: Config, name: str) -> AnyArchive:
    """Return an archive of the configuration.

    Raises
    ------
    ConfigError
        When it has none of that name.
    """
    for archive in config.archives:
        if archive.name == name:
            return archive
    known = ", ".join(archive.name for archive in config.archives) or "none"
    raise ConfigError(f"--from {name}: no such archive; archives: names {known}")


def harvest_archive(
    config: Config,
    name: str,
    wanted: Wanted,
    *,
    pace: PaceSettings,
    tell: Callable[[Told], None] = lambda _: None,
) -> Reconciled:
    """Pull studies of an archive; returns when what came is registered.

    Raises
    ------
    ConfigError
        When the configuration names no such archive.
    TemporaryError
        When no node runs that takes what comes, another harvest runs, or there is no room.
    DestinationDownError
        When the archive does not answer.
    """
    archive, data = archive_of(config, name), config.node.data
    if not is_owned(data):
        raise TemporaryError(
            f"no node runs on {data}, which registers what comes: start it with 'dicom-node serve'"
        )
    teller = Teller(tell)
    with ExitStack() as stack:
        index, inbox = stack.enter_context(_opened(config))
        journal = Journal(Layout(data).pulls)
        stack.callback(journal.close)
        puller = _puller(config, archive, inbox)
        stack.callback(puller.close)
        desk = Desk(
            archive=puller,
            name=name,
            longest_answer=archive.longest_answer,
            index=index,
            inbox=inbox,
            journal=journal,
            pace=Pace(pace, tell=teller.waits),
            is_served=lambda: is_owned(data),
            tell=teller.told,
        )
        return Pull(desk, wanted).run()


def harvest_folder(
    config: Config,
    folder: Path,
    *,
    pace: PaceSettings,
    tell: Callable[[Told], None] = lambda _: None,
) -> Counter[Fate]:
    """Take the DICOM files of a folder; a node that runs, or runs next, registers them.

    Raises
    ------
    ConfigError
        When the folder is none, or holds the node's own data.
    TemporaryError
        When another harvest runs, or there is no room.
    """
    data = config.node.data
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    ours, theirs = data.resolve(), folder.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"{folder} holds, or lies in, the node's own data; name another folder")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    teller = Teller(tell)
    with _opened(config) as (index, inbox):
        shelf = Shelf(digests=Digests(index, inbox), keep=keeper(inbox, config.node.ae_title))
        with _not_taken(Layout(data).not_taken) as left:
            pace_of_files = Pace(pace, tell=teller.waits)
            return take_folder(folder, shelf, pace_of_files, tell=teller.told, left=left)


@contextmanager
def _not_taken(path: Path) -> Iterator[Callable[[Path, Fate], None]]:
    """List the files that are not taken, anew; names of files may hold those of patients."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("why", "file"))
        yield lambda one, fate: rows.writerow((fate.value, one))


def keeper(inbox: Inbox, calling_ae_title: str) -> Keep:
    """Return a function that keeps an instance as the receiver does, under the same conditions.

    Parameters
    ----------
    inbox : Inbox
    calling_ae_title : str
        Source Application Entity Title (0002,0016) of what is kept.
    """

    def keep(incoming: Incoming) -> int:
        is_known = incoming.transfer_syntax_uid in TRANSFER_SYNTAXES
        if not is_known or not is_storage(incoming.sop_class_uid):
            return statuses.SOP_CLASS_NOT_SUPPORTED.code
        storing = Storing(
            inbox,
            StoreCommand(
                sop_class_uid=incoming.sop_class_uid,
                sop_instance_uid=incoming.sop_instance_uid,
                abstract_syntax_uid=incoming.sop_class_uid,
                transfer_syntax_uid=incoming.transfer_syntax_uid,
                calling_ae_title=calling_ae_title,
            ),
        )
        try:
            for fragment in incoming.fragments:
                storing.write(fragment)
        except OSError:  # of the file that it is read from
            storing.discard()
            raise
        status = storing.finish()
        if status is statuses.SUCCESS:
            inbox.pulled.add(1)
        return status.code

    return keep


def _puller(config: Config, archive: AnyArchive, inbox: Inbox) -> Archive:
    ours = config.node.ae_title
    if isinstance(archive, DimseArchive):
        keep = keeper(inbox, archive.ae_title)
        return DimsePuller(archive, calling_ae_title=ours, keep=keep)
    return WebPuller(archive, open_session(archive), keep=keeper(inbox, ours))


@contextmanager
def _opened(config: Config) -> Iterator[tuple[Index, Inbox]]:
    """Open what a harvest needs, for one harvest at a time."""
    layout = Layout(config.node.data)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(layout.data / "pull.lock", wait_for_it=False))
        except ConfigError:
            raise TemporaryError(
                f"another 'dicom-node harvest' works for {layout.data}; let it end first"
            ) from None
        index = Index(layout.index)
        stack.callback(index.close)
        yield index, open_inbox(config)


class Digests:
    """What is here under a SOP Instance UID: registered, or waiting when the harvest began."""

    def __init__(self, index: Index, inbox: Inbox) -> None:
        self._index, self._inbox = index, inbox
        self._waiting: dict[str, list[str]] = {}
        for file_id in inbox.waiting():
            with suppress(PermanentError):  # it was registered meanwhile, or goes aside
                header = read_header(inbox.path(file_id), ["SOPInstanceUID"])
                uid = text(header, "SOPInstanceUID")
                self._waiting.setdefault(uid, []).append(file_id)

    def __call__(self, sop_instance_uid: str) -> set[str]:
        """Return the SHA-256 of each data set, hexadecimal."""
        known = self._index.find(sop_instance_uid)
        found = set() if known is None else {known.sha256}
        for file_id in self._waiting.get(sop_instance_uid, ()):
            with suppress(PermanentError, OSError):
                path = self._inbox.path(file_id)
                with path.open("rb") as file:
                    found.add(data_set_digest(file, data_set_offset(path)))
        return found
