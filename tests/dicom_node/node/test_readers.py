import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dicom_node.harvest import Fate, ReaderNotes
from dicom_node.harvest.opening import NOTES
from dicom_node.records import Task
from dicom_node.store import WeakLabelStore, audit
from tests.support.frames import saved
from tests.support.nodes import Node, node_on, send, until
from tests.support.reader_objects import (
    drawn,
    image,
    kept,
    report,
    said_at,
    seg_by_highdicom,
    seg_by_ohif,
)

pytestmark = [pytest.mark.dimse, pytest.mark.slow]


def heard(node: Node) -> list[Fate]:
    """Return what became of the objects, the latest first."""
    with closing(ReaderNotes(node.config.node.data / NOTES)) as notes:
        return [noted.fate for noted in notes.objects()]


def test_readers_objects_that_are_sent_to_a_node_become_labels(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    source, maps, later = image(tmp_path / "image.dcm", 2), drawn(2), drawn(2, seed=1)
    study = source.study_instance_uid
    first = saved(
        seg_by_highdicom(source.path, maps, **said_at("20260101")), tmp_path / "first.dcm"
    )
    second = saved(
        seg_by_highdicom(source.path, later, **said_at("20260102")), tmp_path / "second.dcm"
    )
    scores = saved(report(source.path, {1: 4, 2: 0}), tmp_path / "scores.dcm")
    unknown = saved(seg_by_ohif(source.path, {1: maps[0]}, Rows=64), tmp_path / "unknown.dcm")
    with node_on(tmp_path, free_port()) as node:
        node.start()
        # before its image, which it waits for
        assert send([second], node.port) == [0]
        until(lambda: heard(node) == [Fate.WAITING], why=node.log)
        assert send([source.path], node.port) == [0]
        until(lambda: node.finished(study), why=node.log)
        # after the study was worked on; one was made before the one that is here
        assert send([first, scores, unknown], node.port) == [0, 0, 0]
        until(lambda: len(heard(node)) == 4 and Fate.WAITING not in heard(node), why=node.log)
        shown = json.loads(node.cli("labels", "readers", "--json").stdout)
        states = sorted(row["state"] for row in shown)
        assert states == ["not used", "superseded", "used", "used"]
        codes = json.loads(node.cli("labels", "codes", "--json").stdout)
        assert [(row["code"], row["label"]) for row in codes] == [
            ("SCT:85756007", "Kidney"),
            ("SCT:85756007", "Liver"),
        ]
        assert node.stop() == 0
    with WeakLabelStore(node.layout.store) as store:
        frames = store.frames(labelled=Task.SEGMENTATION)
        for frame in frames:
            mask = kept(later[frame.frame_number - 1])
            assert np.array_equal(store.mask(frame.frame_id), mask)
        assert {frame.frame_number: frame.quality for frame in frames} == {1: 4, 2: 0}
    assert audit(node.layout.store) == []
    for secret in ("Roe", "ROE"):
        assert secret not in node.log
