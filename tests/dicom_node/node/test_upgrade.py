"""Today's program on the data folder of an earlier one."""

from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.cli.databases import databases
from dicom_node.config import Config, NodeSettings
from dicom_node.database import LAYOUT, written_layout
from dicom_node.harvest import PrivateNotes
from dicom_node.index import Index, StudyState
from dicom_node.index.layout import LAYOUT as INDEX_LAYOUT
from dicom_node.node.layout import Layout
from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.store import WeakLabelStore, audit
from tests.support.earlier import IMAGES, write_earlier

DONE, HANDED_OUT, OPEN, _ = IMAGES


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    write_earlier(tmp_path / "data")
    return Layout(tmp_path / "data")


def test_what_the_earlier_program_knew_is_known(layout: Layout) -> None:
    with closing(Index(layout.index)) as index:
        states = {i: index.study(i.study_instance_uid) for i in (DONE, HANDED_OUT, OPEN)}
        assert [row and row.state for row in states.values()] == [
            StudyState.COMPLETE,
            StudyState.COMPLETE,
            StudyState.OPEN,
        ]
        assert [row.study_instance_uid for row in index.unfinished()] == [
            HANDED_OUT.study_instance_uid
        ]
        assert len(index.completions(DONE.study_instance_uid)) == 1
        found = index.find(DONE.sop_instance_uid)
        assert found is not None
        assert found.path.read_bytes().endswith(DONE.data)
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        assert {(row.kind.value, row.state) for row in outbox.rows()} == {
            ("sr", DeliveryState.DELIVERED),
            ("seg", DeliveryState.WAITING),
        }
    with WeakLabelStore(layout.store) as store:
        [frame] = store.frames()
        assert frame.time_s is None, "it was not kept then"
    assert audit(layout.store) == []


def test_the_databases_are_marked_when_they_are_opened_and_told_before(layout: Layout) -> None:
    config = Config(node=NodeSettings(data=layout.data))
    [(_, fault, found), _] = databases(config)
    assert fault == ""
    assert "index.db, outbox.db, harvest.db, catalogue.db up to date: take a backup" in found
    Index(layout.index).close()
    Outbox(layout.outbox, layout.results).close()
    PrivateNotes(layout.data / "harvest.db").close()
    WeakLabelStore(layout.store).close()
    assert written_layout(layout.index) == INDEX_LAYOUT
    for path in (layout.outbox, layout.data / "harvest.db", layout.store / "catalogue.db"):
        assert written_layout(path) == LAYOUT
    assert "up to date" not in databases(config)[0][2]
