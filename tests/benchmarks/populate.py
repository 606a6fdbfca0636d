"""A data folder as it is after years: kept files, their rows, what was delivered, ended jobs."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from dicom_node.database import open_sqlite
from dicom_node.inbox import Inbox
from dicom_node.index import StudyState
from dicom_node.index.tables import INSTANCE, METADATA, SERIES, STUDY
from dicom_node.outbox import DeliveryState, tables

#: images of a study
STUDY_SIZE = 10
_CHUNK = 20_000
_FIRST_NS = 1_700_000_000_000_000_000
_RESULTS = {"seg": 4, "sr": 5}
_KINDS = {"SOPInstanceUID": 1, "StudyInstanceUID": 2, "SeriesInstanceUID": 3}


def populate(inbox: Inbox, index: Path, count: int) -> None:
    """Keep `count` small ultrasound images in 1/10 as many finished studies."""
    for number in range(256):
        inbox.kept_path(f"{number:024x}").parent.mkdir(mode=0o700, exist_ok=True)
    engine = open_sqlite(index, METADATA)
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with ProcessPoolExecutor() as pool:
        for numbers, identities in zip(
            chunks, pool.map(partial(_write_files, inbox.folder), chunks), strict=True
        ):
            with engine.begin() as connection:
                _insert(connection, numbers, identities)
    engine.dispose()
    inbox.recount()


def deliver(outbox: Path, count: int) -> None:
    """Note a SEG and an SR of each image, both delivered."""
    engine = open_sqlite(outbox, tables.METADATA)
    for start in range(0, count, _CHUNK):
        numbers = range(start, min(start + _CHUNK, count))
        results = [_result(number, kind) for number in numbers for kind in _RESULTS]
        with engine.begin() as connection:
            connection.execute(sa.insert(tables.RESULT), results)
            connection.execute(sa.insert(tables.DELIVERY), [_delivery(one) for one in results])
    engine.dispose()


def end_jobs(jobs: Path, count: int) -> None:
    """Note the ended jobs of `count` studies in a database that a node has made."""
    rows = (
        (f"{kind}:{_uid('StudyInstanceUID', number)}", kind, "x" * 200, "y" * 200, number, number)
        for number in range(count)
        for kind in ("study", "deliver")
    )
    with closing(sqlite3.connect(jobs)) as connection:
        connection.executemany(
            "INSERT INTO workflow_status (workflow_uuid, status, name, inputs, output, created_at, "
            "completed_at) VALUES (?, 'SUCCESS', ?, ?, ?, ?, ?)",
            rows,
        )
        connection.commit()


def file_id(number: int) -> str:
    """Return the file id of an image; its last digits are spread as the inbox's own are."""
    spread = hashlib.blake2b(number.to_bytes(8), digest_size=4).hexdigest()
    return f"{_FIRST_NS + number * 1_000_000:016x}{spread}"


def image(number: int) -> bytes:
    """Return a PS3.10 file of an image that has no pixels."""
    return _with_uids(_TEMPLATE, number)


def _write_files(folder: Path, numbers: range) -> list[tuple[str, str, int]]:
    written = []
    start = _TEMPLATE.index(b"DICM") + 4
    start += 12 + int.from_bytes(_TEMPLATE[start + 8 : start + 12], "little")
    for number in numbers:
        name, content = file_id(number), image(number)
        path = f"{folder}/kept/{name[-2:]}/{name}.dcm"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(handle, content)
        os.close(handle)
        data_set = content[start:]
        written.append((name, hashlib.sha256(data_set).hexdigest(), len(data_set)))
    return written


def _insert(
    connection: sa.Connection, numbers: range, identities: list[tuple[str, str, int]]
) -> None:
    studies = sorted({number // STUDY_SIZE for number in numbers})
    connection.execute(sa.insert(STUDY).prefix_with("OR IGNORE"), list(map(_study, studies)))
    connection.execute(sa.insert(SERIES).prefix_with("OR IGNORE"), list(map(_series, studies)))
    connection.execute(sa.insert(INSTANCE), list(_instances(numbers, identities)))


def _study(number: int) -> dict[str, Any]:
    received_us = _received_us(number * STUDY_SIZE)
    return {
        "study_instance_uid": _uid("StudyInstanceUID", number),
        "patient_id": f"P{number}",
        "state": StudyState.COMPLETE,
        "revision": 1,
        "finished": 1,
        "first_received_us": received_us,
        "last_received_us": received_us,
        "completed_us": received_us + 60_000_000,
        "reason": "nothing came for 60 s",
        "evidence": {"quiet_s": 60.0},
    }


def _series(number: int) -> dict[str, Any]:
    return {
        "study_instance_uid": _uid("StudyInstanceUID", number),
        "series_instance_uid": _uid("SeriesInstanceUID", number),
    }


def _instances(numbers: range, identities: list[tuple[str, str, int]]) -> Iterator[dict[str, Any]]:
    for number, (name, sha256, size_bytes) in zip(numbers, identities, strict=True):
        yield {
            "sop_instance_uid": _uid("SOPInstanceUID", number),
            "sop_class_uid": UltrasoundImageStorage,
            **_series(number // STUDY_SIZE),
            "transfer_syntax_uid": ExplicitVRLittleEndian,
            "file_id": name,
            "path": f"inbox/kept/{name[-2:]}/{name}.dcm",
            "sha256": sha256,
            "size_bytes": size_bytes,
            "received_us": _received_us(number),
        }


def _result(number: int, kind: str) -> dict[str, Any]:
    uid = f"2.25.{_RESULTS[kind]}{number:030d}"
    return {
        "sop_instance_uid": uid,
        "kind": kind,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "study_instance_uid": _uid("StudyInstanceUID", number // STUDY_SIZE),
        "source_sop_instance_uid": _uid("SOPInstanceUID", number),
        "file_name": f"{uid}.dcm",
        "created_at": _received_us(number) / 1e6,
    }


def _delivery(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "sop_instance_uid": result["sop_instance_uid"],
        "destination": "pacs",
        "state": DeliveryState.DELIVERED,
        "attempts": 1,
        "due_at": result["created_at"],
        "status": 0,
        "reason": "",
        "changed_at": result["created_at"],
    }


def _received_us(number: int) -> int:
    return (_FIRST_NS + number * 1_000_000) // 1000


def _uid(keyword: str, number: int) -> str:
    # a hash, as real UIDs come in no order: rows in the order of their keys would flatter the index
    spread = hashlib.blake2b(number.to_bytes(8), digest_size=8).digest()
    return f"2.25.{_KINDS[keyword]}{int.from_bytes(spread):020d}{number:015d}"


def _with_uids(template: bytes, number: int) -> bytes:
    for keyword in _KINDS:
        own = number if keyword == "SOPInstanceUID" else number // STUDY_SIZE
        template = template.replace(_placeholder(keyword), _uid(keyword, own).encode())
    return template


def _placeholder(keyword: str) -> bytes:
    return b"2.25.%d" % _KINDS[keyword] + b"0" * 35


def _template() -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UltrasoundImageStorage
    dataset.PatientID = "NOBODY"
    for keyword in _KINDS:
        setattr(dataset, keyword, _placeholder(keyword).decode())
    with BytesIO() as buffer:
        dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()


_TEMPLATE = _template()
