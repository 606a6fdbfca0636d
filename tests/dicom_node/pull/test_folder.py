from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.archives import PaceSettings
from dicom_node.errors import InboxFullError
from dicom_node.inbox import Inbox, sender_of
from dicom_node.index import Index
from dicom_node.node.harvesting import Digests, keeper
from dicom_node.pull.folder import Fate, Shelf, take_folder
from dicom_node.pull.pace import Pace
from dicom_node.pull.part10 import MEDIA_STORAGE_DIRECTORY
from dicom_node.pull.reconciled import Told
from dicom_node.register import register_waiting
from tests.support.archived import Stored, write_study

pytestmark = pytest.mark.dimse


class Place:
    """A folder of files, and an inbox with its index."""

    def __init__(self, tmp_path: Path, index: Index) -> None:
        self.files, self.index = tmp_path / "files", index
        self.inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
        self.told: list[Told] = []

    def study(self) -> Stored:
        return write_study(self.files / "a", 1, images=3)

    def take(self) -> dict[Fate, int]:
        shelf = Shelf(
            digests=Digests(self.index, self.inbox), keep=keeper(self.inbox, "DICOM_NODE")
        )
        return dict(take_folder(self.files, shelf, Pace(PaceSettings()), tell=self.told.append))

    def register(self) -> None:
        register_waiting(self.inbox, self.index, now=datetime.now(UTC))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    index = Index(tmp_path / "index.db")
    yield Place(tmp_path, index)
    index.close()


def test_a_file_is_kept_byte_for_byte_as_what_arrives(place: Place) -> None:
    study = place.study()
    assert place.take() == {Fate.TAKEN: 3}
    assert place.told[-1] == Told(step="files", done=3, total=3)
    place.register()
    kept = place.index.instances(study.uid)
    assert {one.sop_instance_uid for one in kept} == study.instances
    originals = {str(dcmread(file).SOPInstanceUID): file.read_bytes() for file in study.files}
    for one in kept:
        assert one.path.read_bytes().endswith(originals[one.sop_instance_uid][-400:])
        assert sender_of(one.path) == "DICOM_NODE"


def test_what_is_here_already_is_not_written_again(place: Place) -> None:
    place.study()
    assert place.take() == {Fate.TAKEN: 3}
    assert place.take() == {Fate.HERE: 3}, "they wait to be registered"
    place.register()
    assert place.take() == {Fate.HERE: 3}


@pytest.mark.parametrize("is_registered", [True, False])
def test_other_bytes_under_a_known_uid_are_for_the_node_to_judge(
    place: Place, is_registered: bool
) -> None:
    study = place.study()
    place.take()
    if is_registered:
        place.register()
    ds = dcmread(study.files[0])
    ds.PixelData = b"\x09" * 256
    ds.save_as(study.files[0])
    assert place.take() == {Fate.TAKEN: 1, Fate.HERE: 2}


def test_what_is_no_image_is_counted_by_what_it_is(place: Place) -> None:
    study = place.study()
    whole = study.files[0].read_bytes()
    for name, content in {
        "notes.txt": b"words",
        "empty": b"",
        "cut.dcm": whole[:200],
        "bare.dcm": whole[whole.index(b"\x08\x00") :],
        "unprefixed.dcm": whole[132:],
        "no-uid.dcm": whole.replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x19\x00UI"),
    }.items():
        (place.files / name).write_bytes(content)
    (place.files / "link.dcm").symlink_to(study.files[0])
    directory = dcmread(study.files[1])
    directory.file_meta.MediaStorageSOPClassUID = MEDIA_STORAGE_DIRECTORY
    directory.save_as(place.files / "DICOMDIR")
    deflated = dcmread(study.files[1])
    deflated.SOPClassUID, deflated.SOPInstanceUID = "1.2.840.10008.1.1", generate_uid()
    deflated.save_as(place.files / "verification.dcm")
    assert place.take() == {
        Fate.TAKEN: 3,
        Fate.NO_DICOM: 2,
        Fate.BARE: 2,
        Fate.UNREADABLE: 2,
        Fate.DIRECTORY: 1,
        Fate.REFUSED: 1,
    }


def test_meta_information_that_was_left_behind_does_not_count(place: Place) -> None:
    ds = dcmread(place.study().files[0])
    ds.SOPInstanceUID = "1.2.3.4"
    ds.save_as(place.files / "a" / "0.dcm", enforce_file_format=False)
    place.take()
    place.register()
    assert place.index.find("1.2.3.4") is not None
    assert place.inbox.quarantined() == []


def test_an_inbox_without_room_ends_it(place: Place) -> None:
    place.study()
    place.inbox = Inbox(place.inbox.folder, min_free_bytes=1 << 60)
    with pytest.raises(InboxFullError, match="the same line goes on"):
        place.take()
