from pathlib import Path

import pytest

from dicom_node import metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.node.accounts import settle


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


def test_what_a_living_receiver_writes_is_left_alone(inbox: Inbox) -> None:
    part, own = inbox.create(), Page()
    part.write(b"half")
    assert settle(inbox, own) == 0
    assert own.get(metrics.RECEIVED) == 0
    part.commit()
    assert len(inbox.waiting()) == 1
