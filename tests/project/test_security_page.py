"""docs/security.md says what the code stores, and how."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from dicom_node import config, log
from dicom_node.harvest.pseudonyms import open_key
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.outbox import Outbox
from dicom_node.pipeline import KEEP_WORDS
from dicom_node.store import WeakLabelStore
from tests.support.identities import DATABASES, PAGE, columns, written

TEXT = PAGE.read_text("utf-8")
SOURCE = PAGE.parents[1] / "dicom_node"


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_table_of_what_is_stored_is_made_of_the_databases() -> None:
    assert written(TEXT) == TEXT, "python -m tests.support.identities writes it anew"


def test_it_is_told_of_every_column_whether_it_points_to_a_person() -> None:
    untold = [f"{name}.{column}" for _, name, column, kind in columns() if kind is None]
    assert untold == [], "tell it in tests/support/identities.py"


def test_a_patient_id_lies_in_one_column_alone() -> None:
    found = [(database, name) for database, name, _, kind in columns() if kind == "Patient ID"]
    assert found == [("index.db", "study")]


def test_the_store_holds_neither_uids_nor_words_as_found() -> None:
    kinds = {kind for database, _, _, kind in columns() if database.startswith("store")}
    assert kinds == {"", "pseudonyms"}


def test_no_database_is_forgotten() -> None:
    made = [
        path.relative_to(SOURCE)
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"^\w+(: Final)? = sa\.MetaData\(", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(made) == sum(map(len, DATABASES.values())), made


@pytest.mark.usefixtures("_open_umask")
def test_nobody_else_can_read_what_the_node_makes(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    Index(tmp_path / "index.db").close()
    Outbox(tmp_path / "outbox.db", tmp_path).close()
    open_key(tmp_path / "pseudonym.key")
    WeakLabelStore(tmp_path / "store").close()
    for path in (inbox.folder, tmp_path / "store"):
        assert _mode(path) == 0o700, path
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {"index.db", "outbox.db", "pseudonym.key"} <= {path.name for path in files}
    for path in files:
        assert _mode(path) == 0o600, path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_said_of_time_and_of_logs_is_what_the_code_does() -> None:
    assert f"| {KEEP_WORDS.days} days;" in TEXT
    assert f"cut after {log.LONGEST} characters" in TEXT
    assert not {"patient", "patient_id", "patient_name", "birth_date"} & log.ALLOWED


def test_keys_and_files_that_it_names_exist() -> None:
    sections: dict[str, type[BaseModel]] = {
        "node": config.NodeSettings,
        "node.tls": config.TlsSettings,
        "web": config.WebSettings,
        "infer": config.InferSettings,
    }
    named = re.findall(r"`(node\.tls|node|web|infer)\.(?!yaml)([a-z_]+)`", TEXT)
    assert len(named) > 5
    for section, key in named:
        assert key in sections[section].model_fields, f"{section}.{key}"
    for place in re.findall(r"`((?:dicom_node|tests)/[\w./]+)`", TEXT):
        assert (SOURCE.parent / place).exists(), place
