"""Delete the files of phantom studies; what the databases tell of them stays, as of any study."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dicom_node.books.opened import open_outbox
from dicom_node.config import Config
from dicom_node.errors import UnreadableError
from dicom_node.harvest.words import WANTED, shows_phantom
from dicom_node.header import read_header, text
from dicom_node.index import Index
from dicom_node.node.layout import Layout
from dicom_node.outbox import UNSETTLED, Outbox
from dicom_node.phantom.trial import PATIENT_ID
from dicom_node.records import Instance


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was deleted, and what was not."""

    studies: int
    files: int
    bytes: int
    #: studies that are still worked on or owed to somebody
    left: tuple[str, ...]


def remove_trials(config: Config) -> Removed:
    """Delete images and results of the studies that ``send-test`` sent; the node may run.

    Raises
    ------
    ConfigError
        When no node ran with this configuration.
    """
    layout = Layout(config.node.data)
    deleted: list[int] = []
    left, studies = [], 0
    with closing(open_outbox(config)) as outbox, closing(Index(layout.index)) as index:
        for uid in _studies(layout.index):
            if not _is_over(uid, index, outbox):
                left.append(uid)
                continue
            files = list(_files(index.instances(uid), uid, layout))
            studies += bool(files)
            deleted += [size for path in files if (size := _delete(path)) is not None]
    return Removed(studies=studies, files=len(deleted), bytes=sum(deleted), left=tuple(left))


def _studies(path: Path) -> list[str]:
    question = "SELECT study_instance_uid FROM study WHERE patient_id = ?"
    return [uid for (uid,) in _rows(path, question, PATIENT_ID)]


def _is_over(uid: str, index: Index, outbox: Outbox) -> bool:
    is_owed = any(row.state in UNSETTLED for row in outbox.rows(study=uid))
    return index.is_finished(uid) and not is_owed


def _files(instances: list[Instance], uid: str, layout: Layout) -> Iterator[Path]:
    images = [instance.path for instance in instances if _is_trial(instance.path)]
    yield from images
    if images:
        question = "SELECT file_name FROM result WHERE study_instance_uid = ?"
        for (name,) in _rows(layout.outbox, question, uid):
            yield layout.results / name


def _is_trial(path: Path) -> bool:
    """Whether a file itself says whose it is, and that it shows a phantom."""
    try:
        header = read_header(path, WANTED)
        return shows_phantom(header) and text(header, "PatientID").strip() == PATIENT_ID
    except (OSError, UnreadableError):
        return False


def _delete(path: Path) -> int | None:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return None
    return size


def _rows(path: Path, question: str, value: str) -> list[tuple[str]]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
        return connection.execute(question, (value,)).fetchall()
