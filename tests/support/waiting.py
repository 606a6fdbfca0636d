"""Small files that wait in an inbox as if a receiver had put them there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_node.inbox import Inbox
from dicom_node.receive.storing import StoreCommand, file_meta

SC_IMAGE = "1.2.840.10008.5.1.4.1.1.7"


def put(inbox: Inbox, number: int, *, study: str = "1.2") -> str:
    """Put a small file into the inbox as a receiver does; return its id."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SC_IMAGE, f"1.5.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.3"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, ds)
    command = StoreCommand(
        sop_class_uid=SC_IMAGE,
        sop_instance_uid=f"1.5.{number}",
        abstract_syntax_uid=SC_IMAGE,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="PEER",
    )
    return put_bytes(inbox, file_meta(command) + buffer.getvalue())


def put_bytes(inbox: Inbox, content: bytes) -> str:
    """Let bytes wait as if they had been received."""
    part = inbox.create()
    part.write(content)
    part.commit()
    return part.file_id


def came(path: Path, at: datetime) -> None:
    """Let the last byte of a waiting file have come at a time."""
    os.utime(path, (at.timestamp(), at.timestamp()))


@contextmanager
def without_quarantine(inbox: Inbox) -> Iterator[None]:
    """Let nothing be put aside; no permission would keep a superuser from it."""
    folder = inbox.folder / "quarantine"
    away = folder.rename(inbox.folder / "away")
    folder.touch()
    yield
    folder.unlink()
    away.rename(folder)


def stop_counting(inbox: Inbox) -> None:
    """Let the number of its bytes be readable, and no longer writable."""
    unwritable = os.open(inbox.folder / "bytes", os.O_RDONLY)
    os.dup2(unwritable, inbox._meter._handle)
    os.close(unwritable)
