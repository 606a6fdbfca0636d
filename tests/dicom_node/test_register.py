import hashlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, examples
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from structlog.testing import capture_logs

from dicom_node import metrics
from dicom_node.inbox import Inbox
from dicom_node.inbox.line import Line
from dicom_node.index import Index, StudyState
from dicom_node.receive.storing import StoreCommand, file_meta
from dicom_node.register import PUT_OFF_S, RegisterCounts, rebuild, register_waiting
from tests.support.receiving import EXPLICIT_LE, US_IMAGE, data_set
from tests.support.waiting import put_bytes as put
from tests.support.waiting import stop_counting, without_quarantine

GIB = 1 << 30


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


def image(tmp_path: Path, transfer_syntax_uid: str = EXPLICIT_LE, **attributes: str) -> bytes:
    """Return a small file; an attribute given as "" is left out."""
    values = {
        "SOPClassUID": US_IMAGE,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "PatientID": "P-1",
        "PatientName": "Secret^Name",
    } | attributes
    ds = Dataset()
    for keyword, value in values.items():
        if value:
            setattr(ds, keyword, value)
    path = tmp_path / "made.dcm"
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    command = StoreCommand(
        sop_class_uid=US_IMAGE,
        sop_instance_uid=values["SOPInstanceUID"],
        abstract_syntax_uid=US_IMAGE,
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title="PEER",
    )
    return file_meta(command) + path.read_bytes()


def register(inbox: Inbox, index: Index) -> RegisterCounts:
    return register_waiting(inbox, index, now=datetime.now(UTC))


def kept(inbox: Inbox) -> list[str]:
    return [file_id for folder in inbox.kept() for file_id in folder]


def test_a_received_file_becomes_a_row_and_leaves_the_line(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    file_id = put(inbox, image(tmp_path))
    assert register(inbox, index) == RegisterCounts(new=1)
    instance = index.instances("1.2")[0]
    assert (instance.sop_instance_uid, instance.sop_class_uid) == ("1.2.3.4", US_IMAGE)
    assert (instance.series_instance_uid, instance.transfer_syntax_uid) == ("1.2.3", EXPLICIT_LE)
    assert instance.path == inbox.path(file_id) == inbox.kept_path(file_id)
    sent = data_set(instance.path)
    assert (instance.sha256, instance.size_bytes) == (hashlib.sha256(sent).hexdigest(), len(sent))
    assert abs(instance.received_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert inbox.waiting() == []


def test_the_same_bytes_again_are_removed_and_the_first_copy_stays(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    first = put(inbox, image(tmp_path))
    put(inbox, image(tmp_path))
    assert register(inbox, index) == RegisterCounts(new=1, duplicates=1)
    assert kept(inbox) == [first]
    assert inbox.size_bytes == inbox.path(first).stat().st_size


def test_an_inbox_that_cannot_count_its_bytes_registers_all_the_same(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path))
    put(inbox, image(tmp_path))
    put(inbox, image(tmp_path, SOPInstanceUID="1.2.3.5"))
    stop_counting(inbox)
    assert register(inbox, index) == RegisterCounts(new=2, duplicates=1)
    assert inbox.waiting() == []


def test_the_only_copy_is_never_deleted(inbox: Inbox, index: Index, tmp_path: Path) -> None:
    first = put(inbox, image(tmp_path))
    register(inbox, index)
    inbox.path(first).unlink()
    again = put(inbox, image(tmp_path))
    assert register(inbox, index) == RegisterCounts(duplicates=1)
    assert kept(inbox) == [again]
    assert index.instances("1.2")[0].path.exists()


@pytest.mark.parametrize("left", [-1, 200, 0], ids=["all but one byte", "half a header", "nothing"])
def test_a_kept_file_that_lost_bytes_makes_room_for_the_same_bytes_again(
    inbox: Inbox, index: Index, tmp_path: Path, left: int
) -> None:
    whole = image(tmp_path)
    first = put(inbox, whole)
    register(inbox, index)
    inbox.path(first).write_bytes(whole[:left])
    again = put(inbox, whole)
    assert register(inbox, index) == RegisterCounts(duplicates=1)
    assert kept(inbox) == [again]
    reason = "1.2.3.4 came again; this file has not the length that was registered"
    assert inbox.quarantined() == [(first, reason)]
    [instance] = index.instances("1.2")
    assert (instance.file_id, instance.path.read_bytes()) == (again, whole)
    put(inbox, whole)
    register(inbox, index)
    assert kept(inbox) == [again]


@pytest.mark.parametrize("name", ["the same", "other"])
def test_a_damaged_file_that_cannot_be_put_aside_is_by_the_next_start(
    inbox: Inbox, index: Index, counted: metrics.Page, name: str
) -> None:
    whole = Path(examples.get_path("palette_color")).read_bytes()
    damaged = whole[:-1000]
    first = put(inbox, whole if name == "the same" else damaged)
    register(inbox, index)
    inbox.path(first).write_bytes(damaged)
    again = put(inbox, whole)
    with without_quarantine(inbox):
        assert register(inbox, index).total == 1
    assert inbox.waiting() == []
    assert rebuild(inbox, index) == 1
    assert kept(inbox) == [again]
    assert inbox.quarantined_ids() == [first]
    left = sum(counted.values(metrics.KEPT).values())
    left += sum(counted.values(metrics.QUARANTINED).values())
    assert left == 2 + counted.get(metrics.ADOPTED)


def test_what_cannot_be_put_aside_is_told_once_and_tried_again_after_a_pause(
    tmp_path: Path, index: Index
) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    at_s = 0.0
    inbox.line = Line(inbox.folder / "new", clock=lambda: at_s)
    stuck = put(inbox, b"noise")
    with without_quarantine(inbox), capture_logs() as logs:
        for _ in range(20):
            assert register(inbox, index).total == 0
    assert [(line["event"], line["file_id"]) for line in logs] == [("not_put_aside", stuck)]
    assert register(inbox, index).total == 0
    assert inbox.waiting() == [stuck]
    at_s = PUT_OFF_S
    assert register(inbox, index) == RegisterCounts(unreadable=1)


def test_other_bytes_under_a_known_uid_are_put_aside(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    first = put(inbox, image(tmp_path))
    other = put(inbox, image(tmp_path, PatientID="P-2"))
    assert register(inbox, index) == RegisterCounts(new=1, conflicts=1)
    assert kept(inbox) == [first]
    assert inbox.quarantined() == [(other, "1.2.3.4 is known with other bytes")]


def test_other_bytes_that_come_again_are_quarantined_once(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path))
    other = image(tmp_path, PatientID="P-2")
    first = put(inbox, other)
    register(inbox, index)
    put(inbox, other)
    assert register(inbox, index) == RegisterCounts(conflicts=1)
    assert [file_id for file_id, _ in inbox.quarantined()] == [first]
    assert inbox.waiting() == []
    (inbox.folder / "quarantine" / f"{first}.dcm").unlink()
    second = put(inbox, other)
    register(inbox, index)
    assert [file_id for file_id, _ in inbox.quarantined()] == [second], "never drop the only copy"


@pytest.mark.parametrize(
    ("name", "cut"), [("palette_color", 1000), ("ybr_color", 1000), ("ybr_color", 100_000)]
)
def test_a_damaged_copy_keeps_no_whole_one_out_whichever_comes_first(
    tmp_path: Path, name: str, cut: int
) -> None:
    whole = Path(examples.get_path(name)).read_bytes()
    damaged = whole[:-cut]
    for number, contents in enumerate([(damaged, whole), (whole, damaged)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        inbox, index = Inbox(folder / "inbox", min_free_bytes=0), Index(folder / "index.db")
        ids = [put(inbox, content) for content in contents]
        assert register(inbox, index) == RegisterCounts(new=1, conflicts=1)
        good, bad = ids[contents.index(whole)], ids[contents.index(damaged)]
        assert kept(inbox) == [good]
        assert [file_id for file_id, _ in inbox.quarantined()] == [bad]
        study = index.studies(9)[0].study_instance_uid
        assert [i.file_id for i in index.instances(study)] == [good]
        assert index.instances(study)[0].path.read_bytes() == whole
        assert rebuild(inbox, index) == 0
        index.close()


def test_a_whole_copy_that_comes_late_reopens_the_study(inbox: Inbox, index: Index) -> None:
    whole = Path(examples.get_path("palette_color")).read_bytes()
    put(inbox, whole[:-1000])
    register(inbox, index)
    study = index.studies(9)[0].study_instance_uid
    index.complete(study, reason="quiet", evidence={}, now=datetime.now(UTC))
    put(inbox, whole)
    assert register(inbox, index) == RegisterCounts(conflicts=1)
    assert index.studies(9)[0].state is StudyState.OPEN


@pytest.mark.parametrize("keyword", ["SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_a_missing_uid_is_a_reason(
    inbox: Inbox, index: Index, tmp_path: Path, keyword: str
) -> None:
    put(inbox, image(tmp_path, **{keyword: ""}))
    assert register(inbox, index) == RegisterCounts(unreadable=1)
    assert inbox.quarantined()[0][1] == f"{keyword} is missing"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
@pytest.mark.parametrize("value", ["../../evil", "Secret^Name", "1.2\\1.3", "1" * 65])
def test_what_is_no_uid_is_put_aside_and_not_quoted(
    inbox: Inbox, index: Index, tmp_path: Path, value: str
) -> None:
    put(inbox, image(tmp_path, StudyInstanceUID=value))
    assert register(inbox, index) == RegisterCounts(unreadable=1)
    reason = inbox.quarantined()[0][1]
    assert reason == "StudyInstanceUID is not a UID: 1 to 64 digits and dots"


def test_another_instance_than_the_command_named_is_put_aside(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path).replace(b"1.2.3.4\0", b"1.2.3.5\0", 1))
    assert register(inbox, index) == RegisterCounts(unreadable=1)
    assert "C-STORE command" in inbox.quarantined()[0][1]


def test_another_class_than_the_command_named_is_put_aside(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    assert register(inbox, index) == RegisterCounts(unreadable=1)
    assert "SOPClassUID is not the one of the C-STORE" in inbox.quarantined()[0][1]


def test_a_deflated_data_set_is_put_aside_without_inflating_it(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path, transfer_syntax_uid="1.2.840.10008.1.2.1.99"))
    assert register(inbox, index) == RegisterCounts(unreadable=1)
    assert "deflated" in inbox.quarantined()[0][1]


def test_one_bad_file_stops_no_other(inbox: Inbox, index: Index, tmp_path: Path) -> None:
    for content in (b"", b"noise" * 100, b"\0" * 128 + b"DICM" + os.urandom(4000)):
        put(inbox, content)
        put(inbox, image(tmp_path, SOPInstanceUID=generate_uid()))
    assert register(inbox, index) == RegisterCounts(new=3, unreadable=3)
    assert inbox.waiting() == []
    assert register(inbox, index).total == 0


def test_the_limit_takes_the_oldest(inbox: Inbox, index: Index, tmp_path: Path) -> None:
    ids = [put(inbox, image(tmp_path, SOPInstanceUID=f"1.2.3.{n}")) for n in range(4)]
    counts = register_waiting(inbox, index, now=datetime.now(UTC), limit=3)
    assert counts == RegisterCounts(new=3)
    assert inbox.waiting() == ids[3:]


def test_a_clock_that_was_set_back_holds_no_study_open(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    put(inbox, image(tmp_path))
    earlier = datetime.now(UTC) - timedelta(days=400)
    register_waiting(inbox, index, now=earlier)
    assert index.due(earlier + timedelta(seconds=31), 30) == ["1.2"]


def test_a_crash_between_the_row_and_the_rename_is_healed(
    inbox: Inbox, index: Index, tmp_path: Path
) -> None:
    file_id = put(inbox, image(tmp_path))
    register(inbox, index)
    index.complete("1.2", reason="quiet", evidence={}, now=datetime.now(UTC))
    # the state that a kill leaves between commit and rename
    inbox.path(file_id).rename(inbox.folder / "new" / f"{file_id}.dcm")
    assert register(inbox, index) == RegisterCounts(new=1)
    assert kept(inbox) == [file_id]
    row = index.study("1.2")
    assert row is not None
    assert (row.state, row.revision, row.instances) == (StudyState.COMPLETE, 1, 1)


def test_a_lost_index_is_rebuilt_from_the_inbox(inbox: Inbox, tmp_path: Path) -> None:
    for number in range(5):
        put(inbox, image(tmp_path, SOPInstanceUID=f"1.2.3.{number}"))
    first = Index(tmp_path / "first.db")
    register(inbox, first)
    second = Index(tmp_path / "second.db")
    assert rebuild(inbox, second) == 5
    assert rebuild(inbox, second) == 0
    assert second.instances("1.2") == first.instances("1.2")
    first.close()
    second.close()


def crash(folder: Path, step: str) -> None:
    """Register in a process that dies at one step as if it were killed."""
    inbox, index = Inbox(folder / "inbox", min_free_bytes=0), Index(folder / "index.db")
    owner, name = {"row": (Index, "register"), "rename": (Inbox, "keep")}[step]
    real: Callable[..., object] = getattr(owner, name)

    def die_after(*args: object) -> None:
        real(*args)
        os._exit(9)

    setattr(owner, name, die_after)
    register(inbox, index)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["row", "rename"])
def test_a_process_that_dies_in_between_loses_and_doubles_nothing(
    inbox: Inbox, tmp_path: Path, step: str
) -> None:
    for number in range(6):
        put(inbox, image(tmp_path, SOPInstanceUID=f"1.2.3.{number}"))
    process = multiprocessing.get_context("fork").Process(target=crash, args=(tmp_path, step))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    index = Index(tmp_path / "index.db")
    rebuild(inbox, index)
    register(inbox, index)
    assert index.counts()["instances"] == 6
    assert len(kept(inbox)) == 6
    assert inbox.waiting() == []
    assert inbox.quarantined() == []
    index.close()


def test_every_real_file_of_pydicom_is_registered_with_its_own_bytes(
    inbox: Inbox, index: Index
) -> None:
    paths = [Path(examples.get_path(name)) for name in ("palette_color", "ybr_color", "jpeg2k")]
    for path in paths:
        put(inbox, path.read_bytes())
    assert register(inbox, index) == RegisterCounts(new=3)
    digests = {hashlib.sha256(data_set(path)).hexdigest() for path in paths}
    found = [index.find(dcmread(path).SOPInstanceUID) for path in paths]
    assert {instance.sha256 for instance in found if instance} == digests
    assert ExplicitVRLittleEndian in {i.transfer_syntax_uid for i in found if i}


def register_all(folder: Path, files: list[Path]) -> None:
    inbox, index = Inbox(folder / "inbox", min_free_bytes=0), Index(folder / "index.db")
    for path in files:
        put(inbox, path.read_bytes())
    counts = register(inbox, index)
    assert counts.total == len(files)
    assert highest_rss_bytes() < GIB


def highest_rss_bytes() -> int:
    # ru_maxrss would go on from the process that started this one, even across an exec
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.data
@pytest.mark.slow
def test_malformed_files_end_kept_or_aside_within_a_gibibyte(
    tmp_path: Path, test_data: Path
) -> None:
    files = sorted((test_data / "dicom_bad").glob("*.dcm"))
    # not a fork, which would count the memory of the tests that ran before it
    process = multiprocessing.get_context("spawn").Process(
        target=register_all, args=(tmp_path, files)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    assert inbox.waiting() == []
    aside = inbox.quarantined()
    assert len(kept(inbox)) + len(aside) == len(files) > 0
    assert all(reason for _, reason in aside)
    assert not any("lost" in reason for _, reason in aside)


def test_every_file_that_leaves_the_line_is_counted_once(
    inbox: Inbox, index: Index, tmp_path: Path, counted: metrics.Page
) -> None:
    for content in (
        image(tmp_path),
        image(tmp_path),
        image(tmp_path, PatientID="P-2"),
        b"no DICOM",
    ):
        put(inbox, content)
    register(inbox, index)
    register(inbox, index)
    assert counted.values(metrics.KEPT) == {("new",): 1, ("duplicate",): 1}
    assert counted.values(metrics.QUARANTINED) == {("conflict",): 1, ("unreadable",): 1}


def test_what_a_lost_index_makes_anew_is_counted_as_adopted(
    inbox: Inbox, tmp_path: Path, counted: metrics.Page
) -> None:
    kept_file = put(inbox, image(tmp_path))
    inbox.keep(kept_file)
    index = Index(tmp_path / "fresh.db")
    rebuild(inbox, index)
    index.close()
    assert counted.get(metrics.ADOPTED) == counted.get(metrics.KEPT, "new") == 1
