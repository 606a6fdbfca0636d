"""Today's program on the data folder of an earlier one."""

from collections import Counter
from collections.abc import Callable
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
from dicom_node.records import Task
from dicom_node.store import WeakLabelStore, audit
from dicom_node.store.catalogue import LAYOUT as CATALOGUE_LAYOUT
from tests.support.earlier import IMAGES, write_earlier
from tests.support.nodes import node_on, until
from tests.support.pacs import pacs

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
        assert sum(count.frames for count in store.label_counts()) == 1
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
    assert written_layout(layout.store / "catalogue.db") == CATALOGUE_LAYOUT
    for path in (layout.outbox, layout.data / "harvest.db"):
        assert written_layout(path) == LAYOUT
    assert "up to date" not in databases(config)[0][2]


@pytest.mark.dimse
@pytest.mark.slow
def test_a_node_goes_on_where_the_earlier_one_stopped(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415
    from tests.torture.destination import KINDS, SEG, SR  # noqa: PLC0415

    with (
        pacs(free_port(), *KINDS) as peer,
        node_on(tmp_path, free_port(), peer.destination) as node,
    ):
        for task in (Task.SEGMENTATION, Task.QUALITY):
            write_bundle(tmp_path / "bundles" / f"{task.value}.onnx", task)
        write_earlier(node.layout.data)
        with node.outbox() as outbox:
            [delivered] = [row.sop_instance_uid for row in outbox.rows(DeliveryState.DELIVERED)]
        node.start()
        until(lambda: node.finished(*(i.study_instance_uid for i in IMAGES)), why=node.log)
        assert node.cli("queue", "retry").returncode == 0
        with node.outbox() as outbox:
            until(lambda: not outbox.counts()[DeliveryState.WAITING], why=node.log)
        assert node.stop() == 0
    received = Counter((str(ds.SOPClassUID), str(ds.StudyInstanceUID)) for ds in peer.received)
    expected = {(kind, image.study_instance_uid): 1 for kind in (SEG, SR) for image in IMAGES}
    del expected[SR, DONE.study_instance_uid]
    assert dict(received) == expected
    assert delivered not in {ds.SOPInstanceUID for ds in peer.received}
