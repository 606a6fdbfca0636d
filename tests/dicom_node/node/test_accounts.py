from pathlib import Path

import pytest

from dicom_node import metrics
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.node.accounts import in_flight, settle


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


def leave_unfinished(inbox: Inbox, count: int) -> None:
    """Leave what a killed writer leaves: files that nobody holds."""
    for number in range(count):
        (inbox.folder / "tmp" / f"{number:024x}.dcm").write_bytes(b"half")


def page(*, received: int, stored: int = 0, refused: int = 0, aborted: int = 0) -> Page:
    made = Page()
    made.add(metrics.RECEIVED, by=received)
    made.add(metrics.STORED, by=stored)
    made.add(metrics.REFUSED, "A700", by=refused)
    made.add(metrics.ABORTED, by=aborted)
    return made


def test_what_is_neither_stored_nor_refused_nor_aborted_is_in_flight() -> None:
    assert in_flight(page(received=9, stored=4, refused=2, aborted=1)) == 2


def test_what_lay_unfinished_was_aborted_and_the_rest_was_durable(inbox: Inbox) -> None:
    dead = page(received=9, stored=4, refused=2)
    leave_unfinished(inbox, 2)
    assert settle(inbox, [dead]) == 2
    assert dead.get(metrics.ABORTED) == 2
    assert dead.get(metrics.STORED) == 5
    assert in_flight(dead) == 0
    assert not list((inbox.folder / "tmp").iterdir())


def test_two_that_died_at_once_share_what_they_left(inbox: Inbox) -> None:
    one, other = page(received=3, stored=1), page(received=5, stored=4)
    leave_unfinished(inbox, 3)
    settle(inbox, [one, other])
    assert one.get(metrics.ABORTED) + other.get(metrics.ABORTED) == 3
    assert in_flight(one) == in_flight(other) == 0


def test_what_a_living_receiver_writes_is_left_alone(inbox: Inbox) -> None:
    part = inbox.create()
    part.write(b"half")
    assert settle(inbox, [page(received=1)]) == 0
    part.commit()
    assert len(inbox.waiting()) == 1
