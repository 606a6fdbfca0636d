from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node import metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.node.accounts import settle
from dicom_node.notices import open_notices


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


def test_what_a_dead_receiver_left_unfinished_was_received_and_aborted(inbox: Inbox) -> None:
    for number in range(2):
        (inbox.folder / "tmp" / f"{number:024x}.dcm").write_bytes(b"half")
    own = Page()
    assert inbox.unfinished == 2
    assert settle(inbox, own) == 2
    assert own.get(metrics.RECEIVED) == own.get(metrics.ABORTED) == 2
    assert inbox.unfinished == 0


def test_a_leftover_that_cannot_be_removed_ends_no_node_and_leaves_the_books_right(
    inbox: Inbox,
) -> None:
    (inbox.folder / "tmp" / f"{0:024x}.dcm").write_bytes(b"half")
    (inbox.folder / "tmp" / f"{1:024x}.dcm").mkdir()
    own = Page()
    assert settle(inbox, own) == 1
    assert own.get(metrics.RECEIVED) == own.get(metrics.ABORTED) == 1


def test_a_folder_that_cannot_be_listed_ends_no_node(inbox: Inbox) -> None:
    (inbox.folder / "tmp").rmdir()
    own = Page()
    with capture_logs() as logs:
        assert settle(inbox, own) == 0
    assert {"leftovers not swept"} < {line["event"] for line in logs}


def test_what_a_dead_receiver_left_of_a_notice_is_swept_and_is_no_transfer(inbox: Inbox) -> None:
    notices, own = open_notices(inbox), Page()
    (notices.folder / "tmp" / "half.json").write_text("{")
    with capture_logs() as logs:
        assert settle(inbox, own) == 0
    assert logs[-1]["counts"] == {"leftovers_swept": 0, "notices_swept": 1}
    assert own.get(metrics.RECEIVED) == 0


def test_what_a_living_receiver_writes_is_left_alone(inbox: Inbox) -> None:
    part, own = inbox.create(), Page()
    part.write(b"half")
    assert settle(inbox, own) == 0
    assert own.get(metrics.RECEIVED) == 0
    part.commit()
    assert len(inbox.waiting()) == 1


def test_what_a_receiver_counted_before_it_died_is_not_received_again(inbox: Inbox) -> None:
    ids = [f"{number:024x}" for number in range(3)]
    for file_id in ids:
        (inbox.folder / "tmp" / f"{file_id}.dcm").write_bytes(b"whole or half")
    (inbox.folder / "tmp" / "no file of ours").touch()
    own, receivers = Page(), [Page(), Page()]
    receivers[1].add_and(metrics.RECEIVED, ids[1], lambda: None)  # and here it died
    assert settle(inbox, own, receivers) == 4
    assert own.get(metrics.ABORTED) == 4
    assert own.get(metrics.RECEIVED) == 3
