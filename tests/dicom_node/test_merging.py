"""Stills of one series through the analysis of their study: one SEG for all of them."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import Segmentation, segread
from pydicom import dcmread

from dicom_node.books.study import collect
from dicom_node.config import Config, Destination, InferSettings, NodeSettings
from dicom_node.infer.models import Chosen
from dicom_node.node.worker import open_parts
from dicom_node.outbox import DeliveryRow, DeliveryState
from dicom_node.pipeline import Parts, analyse_study
from dicom_node.records import Instance, ResultKind, Task, WeakLabels
from dicom_node.register import register_waiting

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.support.stills import picture, read_of

SEG = ResultKind.SEG


def nowhere(name: str, *send: str, **settings: object) -> Destination:
    """Return a destination that nothing listens at, and that has no ladder."""
    return Destination(
        name=name, ae_title="PACS", host="127.0.0.1", port=1, send=send, fallback=(), **settings
    )


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        infer=InferSettings(threads=1),
        bundles=tmp_path / "bundles",
        destinations=(nowhere("pacs", "seg", "sr"),),
    )
    with open_parts(config) as opened:
        yield opened


def receive(parts: Parts, *paths: Path) -> str:
    """Put images into the inbox as the receiver does, register them, return their study."""
    for path in paths:
        part = parts.inbox.create()
        part.write(path.read_bytes())
        part.commit()
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC))
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def segs(parts: Parts) -> list[Segmentation]:
    """Return the SEGs that may be sent, by series and version."""
    found = [segread(path) for path in parts.results.glob("*.dcm") if is_seg(path)]
    return sorted(found, key=lambda seg: (seg.SeriesInstanceUID, seg.InstanceNumber))


def is_seg(path: Path) -> bool:
    return str(dcmread(path, stop_before_pixels=True).Modality) == "SEG"


def images_in(seg: Segmentation) -> list[str]:
    [series] = seg.ReferencedSeriesSequence
    return [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]


def owed(parts: Parts) -> dict[str, DeliveryRow]:
    """Return what is owed of SEGs, by SOP Instance UID."""
    return {row.sop_instance_uid: row for row in parts.outbox.rows() if row.kind is SEG}


def states(parts: Parts) -> dict[int, DeliveryState]:
    """Return the states of SEGs of one series by version."""
    return {row.version: row.state for row in owed(parts).values()}


def new_model(parts: Parts, version: str, **manifest: object) -> None:
    assert parts.config.bundles is not None
    path = parts.config.bundles / "segmentation.onnx"
    write_bundle(path, Task.SEGMENTATION, version=version, **manifest)


def test_the_stills_of_a_series_share_one_seg_and_a_cine_has_its_own(
    parts: Parts, tmp_path: Path
) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2, 3)]
    cine = picture(tmp_path, 4, frames=3)
    study = receive(parts, *paths, cine)
    assert analyse_study(parts, study, "1") == {"images": 4, "results": 6, "failures": 0}
    by_images = {tuple(images_in(seg)): seg for seg in segs(parts)}
    uids = [uid_of(path) for path in paths]
    assert by_images.keys() == {tuple(uids), (uid_of(cine),)}
    seg = by_images[tuple(uids)]
    for number, uid in zip((1, 2, 3), uids, strict=True):
        inside = np.zeros((64, 96), np.uint8)
        inside[8:24, 8 * number : 8 * number + 16] = 1
        assert np.array_equal(read_of(seg, uid), inside)
    assert owed(parts).keys() == {found.SOPInstanceUID for found in by_images.values()}


def test_stills_of_other_sizes_have_segs_of_their_own(parts: Parts, tmp_path: Path) -> None:
    paths = [picture(tmp_path, number, rows=rows) for number, rows in ((1, 64), (2, 80), (3, 64))]
    study = receive(parts, *paths)
    analyse_study(parts, study, "1")
    first, second, third = map(uid_of, paths)
    assert sorted(map(images_in, segs(parts)), key=len) == [[second], [first, third]]
    assert len({seg.SeriesInstanceUID for seg in segs(parts)}) == 2


def test_a_still_that_comes_late_gives_the_next_version_in_the_series(
    parts: Parts, tmp_path: Path
) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2)]
    study = receive(parts, paths[0])
    analyse_study(parts, study, "1")
    receive(parts, paths[1])
    assert analyse_study(parts, study, "2")["results"] == 2  # a report, and the SEG of both
    first, second = segs(parts)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert [images_in(first), images_in(second)] == [[uid_of(paths[0])], list(map(uid_of, paths))]
    rows = owed(parts)
    assert rows[second.SOPInstanceUID].supersedes == first.SOPInstanceUID
    assert states(parts) == {1: DeliveryState.WITHDRAWN, 2: DeliveryState.WAITING}


def test_the_same_stills_are_not_said_again(parts: Parts, tmp_path: Path) -> None:
    study = receive(parts, *(picture(tmp_path, number) for number in (1, 2)))
    analyse_study(parts, study, "1")
    files, rows = sorted(parts.results.rglob("*")), parts.outbox.rows()
    for revision in ("1", "2"):
        assert analyse_study(parts, study, revision)["results"] == 0
    assert sorted(parts.results.rglob("*")) == files
    assert parts.outbox.rows() == rows


def test_where_nothing_is_found_there_is_no_seg(parts: Parts, tmp_path: Path) -> None:
    study = receive(parts, *(picture(tmp_path, number, side=0) for number in (1, 2)))
    analyse_study(parts, study, "1")
    assert segs(parts) == []
    assert owed(parts) == {}


def test_a_still_in_which_nothing_is_found_is_not_in_the_seg(parts: Parts, tmp_path: Path) -> None:
    paths = [picture(tmp_path, 1), picture(tmp_path, 2, side=0)]
    study = receive(parts, *paths)
    analyse_study(parts, study, "1")
    [seg] = segs(parts)
    assert images_in(seg) == [uid_of(paths[0])]


def test_a_still_in_which_nothing_is_found_any_more_leaves_the_seg(
    parts: Parts, tmp_path: Path
) -> None:
    paths = [picture(tmp_path, 1), picture(tmp_path, 2, side=8)]
    study = receive(parts, *paths)
    analyse_study(parts, study, "1")
    new_model(parts, "2", min_area_fraction=0.02)
    analyse_study(parts, study, "1")
    assert [images_in(seg) for seg in segs(parts)] == [
        list(map(uid_of, paths)),
        [uid_of(paths[0])],
    ]
    new_model(parts, "3", min_area_fraction=0.5)
    analyse_study(parts, study, "1")
    assert len(segs(parts)) == 2
    assert states(parts) == {1: DeliveryState.WITHDRAWN, 2: DeliveryState.WITHDRAWN}


def test_what_another_model_says_replaces_the_seg_in_its_series(
    parts: Parts, tmp_path: Path
) -> None:
    study = receive(parts, *(picture(tmp_path, number) for number in (1, 2)))
    analyse_study(parts, study, "1")
    new_model(parts, "2")
    analyse_study(parts, study, "1")
    first, second = segs(parts)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert images_in(first) == images_in(second)
    assert states(parts) == {1: DeliveryState.WITHDRAWN, 2: DeliveryState.WAITING}


class Exchanged:
    """Models of which somebody exchanges one after the first image."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._images = parts, 0

    def for_image(self, instance: Instance, labels: WeakLabels) -> Chosen:
        self._images += 1
        if self._images == 2:
            new_model(self._parts, "2")
        return self._parts.models.for_image(instance, labels)


def test_a_model_that_is_exchanged_between_two_stills_loses_neither(
    parts: Parts, tmp_path: Path
) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2)]
    study = receive(parts, *paths)
    analyse_study(replace(parts, models=Exchanged(parts)), study, "1")  # type: ignore[arg-type]
    by_images = {tuple(images_in(seg)): seg for seg in segs(parts)}
    old, new = map(uid_of, paths)
    assert by_images.keys() == {(old,), (new,)}
    assert len({seg.SeriesInstanceUID for seg in by_images.values()}) == 2
    assert {row.state for row in owed(parts).values()} == {DeliveryState.WAITING}
    # the study opens again, and one model looks at both
    analyse_study(parts, study, "2")
    [both] = [seg for seg in segs(parts) if images_in(seg) == [old, new]]
    assert both.SeriesInstanceUID == by_images[new,].SeriesInstanceUID
    waiting = [uid for uid, row in owed(parts).items() if row.state is DeliveryState.WAITING]
    assert waiting == [both.SOPInstanceUID]


def test_each_form_is_merged_for_whom_takes_it(parts: Parts, tmp_path: Path) -> None:
    wanted = [nowhere(form, "seg", segmentation=form) for form in ("hybrid", "nominal", "labelmap")]
    everybody = with_destinations(parts, wanted)
    study = receive(parts, *(picture(tmp_path, number) for number in (1, 2)))
    analyse_study(everybody, study, "1")
    found = {str(seg.SOPInstanceUID): seg for seg in segs(parts)}
    forms = {
        row.destination: (found[uid].SegmentationType, "FrameOfReferenceUID" in found[uid])
        for uid, row in owed(parts).items()
    }
    assert forms == {
        "hybrid": ("BINARY", False),
        "nominal": ("BINARY", True),
        "labelmap": ("LABELMAP", False),
    }
    assert len({seg.SeriesInstanceUID for seg in found.values()}) == 3


def with_destinations(parts: Parts, destinations: Sequence[Destination]) -> Parts:
    return replace(parts, config=parts.config.model_copy(update={"destinations": destinations}))


def test_nothing_is_merged_for_nobody(parts: Parts, tmp_path: Path) -> None:
    reports = with_destinations(parts, [nowhere("reports", "sr")])
    study = receive(parts, picture(tmp_path, 1))
    analyse_study(reports, study, "1")
    assert segs(parts) == []
    assert {row.kind for row in parts.outbox.rows()} == {ResultKind.SR}


def test_who_is_not_asked_any_more_gets_no_later_version(parts: Parts, tmp_path: Path) -> None:
    both = with_destinations(parts, [nowhere("pacs", "seg"), nowhere("old", "seg")])
    study = receive(parts, picture(tmp_path, 1))
    analyse_study(both, study, "1")
    receive(parts, picture(tmp_path, 2))
    analyse_study(parts, study, "2")
    assert {row.destination for row in owed(parts).values() if row.version == 2} == {"pacs"}


def test_a_crash_before_the_seg_is_owed_leaves_one_seg_that_is_owed_once(
    parts: Parts, tmp_path: Path
) -> None:
    study = receive(parts, *(picture(tmp_path, number) for number in (1, 2)))
    analyse_study(parts, study, "1")
    files, owed_before = sorted(parts.results.rglob("*")), owed(parts).keys()
    # as if it had been killed between the file and the row
    forget_merged(parts)
    assert owed(parts) == {}
    assert analyse_study(parts, study, "1")["results"] == 1
    assert sorted(parts.results.rglob("*")) == files
    assert owed(parts).keys() == owed_before


def forget_merged(parts: Parts) -> None:
    tables = ("delivery", "merged", "version", "result")
    with closing(sqlite3.connect(parts.config.node.data / "outbox.db")) as connection:
        query = "SELECT DISTINCT sop_instance_uid FROM merged"
        uids = [uid for (uid,) in connection.execute(query)]
        for table in tables:
            connection.executemany(
                f"DELETE FROM {table} WHERE sop_instance_uid = ?",  # noqa: S608
                [(uid,) for uid in uids],
            )
        connection.commit()


def test_what_cannot_be_merged_goes_by_itself(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2)]
    study = receive(parts, paths[0])
    analyse_study(parts, study, "1")
    [mask] = (parts.results / "stills").iterdir()
    mask.unlink()
    receive(parts, paths[1])
    analyse_study(parts, study, "2")
    assert "stills not merged" in capsys.readouterr().out
    by_image = {uid: seg.SOPInstanceUID for seg in segs(parts) for uid in images_in(seg)}
    assert by_image.keys() == {*map(uid_of, paths)}
    assert owed(parts).keys() == {*by_image.values()}
    assert {row.state for row in owed(parts).values()} == {DeliveryState.WAITING}
    [errand] = parts.outbox.due(datetime.now(UTC))
    alone = parts.results / f"{by_image[uid_of(paths[1])]}.dcm"
    assert alone in [result.path for result in parts.outbox.waiting(errand)]


def test_what_can_neither_be_merged_nor_go_by_itself_is_said_and_harms_no_other(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2)]
    study = receive(parts, *paths)
    analyse_study(parts, study, "1")
    # as if it had been killed before the SEG of both was written
    forget_merged(parts)
    for path in parts.results.glob("*.dcm"):
        if is_seg(path):
            path.unlink()
    next((parts.results / "stills").iterdir()).write_bytes(b"")
    analyse_study(parts, study, "1")
    said = capsys.readouterr().out
    assert "stills not merged" in said
    assert "still has no SEG" in said
    [seg] = segs(parts)
    assert owed(parts).keys() == {seg.SOPInstanceUID}
    # who asks after the study is told, too
    [without] = {*map(uid_of, paths)} - {*images_in(seg)}
    [rejected] = collect(parts.config, study)["validated"]["rejected"]
    assert rejected["image_sop_instance_uid"] == without
    assert "mask" in rejected["reason"]


def test_who_asks_after_a_study_sees_one_seg_of_its_stills(parts: Parts, tmp_path: Path) -> None:
    paths = [picture(tmp_path, number) for number in (1, 2)]
    study = receive(parts, *paths)
    analyse_study(parts, study, "1")
    found = collect(parts.config, study)
    passed = found["validated"]["passed"]
    images = [row["image_sop_instance_uids"] for row in passed if row["kind"] == "seg"]
    assert images == [sorted(map(uid_of, paths))]
    assert sorted(row["kind"] for row in passed) == ["seg", "sr", "sr"]
    assert sorted(row["kind"] for row in found["delivered"]) == ["seg", "sr", "sr"]
    assert found["inferred"]["images_without_answers"] == 0
