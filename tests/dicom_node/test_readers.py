"""Readers' objects on their way through the pipeline."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from pydicom.uid import generate_uid

from dicom_node.config import Config, HarvestSettings, NodeSettings, StudySettings
from dicom_node.harvest import READER_OBJECTS, Fate
from dicom_node.jobs import Dispatcher
from dicom_node.node.worker import open_parts
from dicom_node.pipeline import Dispatch, Parts, harvest_study, label_study
from dicom_node.records import Task
from dicom_node.register import register_waiting
from tests.support.frames import saved
from tests.support.reader_objects import drawn, image, report, seg_by_highdicom


def config_of(folder: Path, **harvest: object) -> Config:
    return Config(
        node=NodeSettings(data=folder / "data", min_free_gib=0),
        study=StudySettings(quiet_s=1),
        harvest=HarvestSettings(**harvest),
    )


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with open_parts(config_of(tmp_path)) as opened:
        yield opened


def receive(parts: Parts, *paths: Path) -> None:
    for path in paths:
        part = parts.inbox.create()
        part.write(path.read_bytes())
        part.commit()
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC))


def masked(parts: Parts) -> int:
    return len(parts.harvester.store.frames(labelled=Task.SEGMENTATION))


def test_an_object_that_came_with_its_images_is_heard_when_they_are_harvested(
    parts: Parts, tmp_path: Path
) -> None:
    source = image(tmp_path / "image.dcm", 2)
    seg = saved(seg_by_highdicom(source.path, drawn(2)), tmp_path / "seg.dcm")
    receive(parts, seg, source.path)
    study = source.study_instance_uid
    assert label_study(parts, study, "1") == {Fate.WAITING: 1}
    assert harvest_study(parts, study, "1") == {"frames stored": 2}
    assert masked(parts) == 2


def test_an_object_of_another_study_waits_for_its_images_too(parts: Parts, tmp_path: Path) -> None:
    source = image(tmp_path / "image.dcm")
    made = seg_by_highdicom(source.path, drawn(), StudyInstanceUID=generate_uid())
    receive(parts, source.path, saved(made, tmp_path / "seg.dcm"))
    label_study(parts, str(made.StudyInstanceUID), "1")
    assert masked(parts) == 0
    harvest_study(parts, source.study_instance_uid, "1")
    assert masked(parts) == 1


def test_what_the_node_sent_and_gets_back_is_its_own(parts: Parts, tmp_path: Path) -> None:
    source = image(tmp_path / "image.dcm")
    made = seg_by_highdicom(source.path, drawn())
    saved(made, parts.results / f"{made.SOPInstanceUID}.dcm")
    receive(parts, source.path, saved(made, tmp_path / "seg.dcm"))
    harvest_study(parts, source.study_instance_uid, "1")
    assert masked(parts) == 0
    (noted,) = parts.harvester.readers.notes.objects()
    assert noted.fate is Fate.OURS


def test_studies_with_new_objects_are_told_once(parts: Parts, tmp_path: Path) -> None:
    newcomers = parts.index.newcomers
    assert newcomers.after(0, READER_OBJECTS) == (0, [])
    source = image(tmp_path / "image.dcm")
    receive(parts, source.path)
    serial, studies = newcomers.after(0, READER_OBJECTS)
    assert (serial, studies) == (1, [])
    receive(parts, saved(report(source.path, {1: 3}), tmp_path / "sr.dcm"))
    serial, studies = newcomers.after(serial, READER_OBJECTS)
    assert (serial, studies) == (2, [source.study_instance_uid])
    assert newcomers.after(serial, READER_OBJECTS) == (2, [])
    # an index that was rebuilt has fewer rows
    assert newcomers.after(99, READER_OBJECTS) == (2, [source.study_instance_uid])


class Remembering:
    """Stands where jobs are handed out."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def enqueue(self, kind: str, job_id: str, *_: object, **__: object) -> None:
        if kind == "labels":
            self.labels.append(job_id)


def labels_jobs(config: Config) -> list[str]:
    """Return the looks at readers' objects that a node hands out after its start."""
    handed_out = Remembering()
    with open_parts(config) as parts:
        dispatch = Dispatch(parts, cast(Dispatcher, handed_out))
        dispatch.complete()
        dispatch.complete()
    return handed_out.labels


def test_a_study_that_was_worked_on_is_looked_at_again_for_a_late_object_or_other_codes(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path)
    source = image(tmp_path / "image.dcm")
    with open_parts(config) as parts:
        receive(parts, source.path)
    assert labels_jobs(config) == []
    with open_parts(config) as parts:
        receive(parts, saved(report(source.path, {1: 3}), tmp_path / "sr.dcm"))
    (job,) = labels_jobs(config)
    assert f":{source.study_instance_uid}:" in job
    assert labels_jobs(config) == []
    codes = tmp_path / "codes.csv"
    codes.write_text("code,label,stands_for\n99X:Q,,quality\n")
    (other,) = labels_jobs(config_of(tmp_path, reader_codes=codes))
    assert other != job
    (tmp_path / "off").mkdir()
    off = config_of(tmp_path / "off", enabled=False)
    with open_parts(off) as parts:
        receive(parts, tmp_path / "sr.dcm")
    assert labels_jobs(off) == []
