import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.register import rebuild
from tests.benchmarks import grown
from tests.benchmarks.growth import _compared, _within
from tests.benchmarks.populate import deliver, populate


def test_a_populated_folder_is_one_that_a_node_could_have_made(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    populate(inbox, tmp_path / "index.db", 300)
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        [digest] = connection.execute("SELECT sha256 FROM instance LIMIT 1 OFFSET 7").fetchone()
        connection.execute("DELETE FROM instance WHERE sha256 = ?", (digest,))
        connection.commit()
    index = Index(tmp_path / "index.db")
    assert index.counts()["instances"] == 299
    assert rebuild(inbox, index) == 1
    assert index.counts() == {
        "studies_open": 1,
        "studies_complete": 29,
        "series": 30,
        "instances": 300,
        "bytes": index.counts()["bytes"],
    }
    index.close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        query = "SELECT count(*) FROM instance WHERE sha256 = ?"
        assert connection.execute(query, (digest,)).fetchone() == (1,)


def test_populated_deliveries_are_those_of_an_outbox(tmp_path: Path) -> None:
    deliver(tmp_path / "outbox.db", 20)
    outbox = Outbox(tmp_path / "outbox.db", tmp_path)
    assert outbox.counts()[DeliveryState.DELIVERED] == 40
    assert len(outbox.rows()) == 40
    outbox.close()


def test_every_folder_registers_as_many_files(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    rates = grown.registering(folders, files=300, rounds=2)
    assert [len(found) for found in rates] == [2, 2]
    for folder in folders:
        index = Index(folder / "index.db")
        assert index.counts()["instances"] == 600
        index.close()


def test_a_goal_is_met_or_not() -> None:
    assert _within("start-up", [9.0, 11.0, 2.0], 10.0).met
    assert _within("start-up", [9.0, 11.0, 12.0], 10.0).met is False
    slower = _compared("rate", [10.0, 10.0], [8.0, 8.0], "1/s", "an empty node", goal=0.9)
    assert (slower.ratio, slower.met) == (pytest.approx(0.8), False)
