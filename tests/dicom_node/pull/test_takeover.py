from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config import Config, FetchFrom, NodeSettings, StudySettings
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.pull import take_over_study
from dicom_node.register import register_waiting
from dicom_node.roster import OwedStudy, Roster
from tests.dicom_node.pull.test_move import archive, image
from tests.support.pacs import pacs
from tests.support.waiting import SC_IMAGE, put

pytestmark = [
    pytest.mark.dimse,
    pytest.mark.peers,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class Node:
    """One that lives, and finds that node ``a`` had two instances of a study."""

    def __init__(self, folder: Path, url: str, port: int) -> None:
        at = FetchFrom(ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5.0)
        self.config = Config(
            node=NodeSettings(ae_title="NODE", data=folder), study=StudySettings(fetch_from=at)
        )
        self.inbox, self.index = Inbox(folder / "inbox", min_free_bytes=0), Index(folder / "i.db")
        self.roster = Roster(url, "b")
        dead = Roster(url, "a")
        for roster in (dead, self.roster):
            roster.join(installation=roster.name, ae_title="", dead_after_s=60)
        dead.list_unfinished({"1.2": 2})
        dead.close()
        self.cancelled: list[str] = []

    def receive(self, number: int) -> None:
        put(self.inbox, number)
        register_waiting(self.inbox, self.index, now=datetime.now(UTC))

    def take_over(self) -> dict[str, int]:
        [study] = self.roster.owed("a", again_after_s=0)

        def cancel(study: OwedStudy) -> int:
            self.cancelled.append(study.study_instance_uid)
            return 1

        return take_over_study(
            self.index, self.inbox, self.config, self.roster, study, cancel=cancel
        )

    @property
    def reason(self) -> str:
        return next(row.reason for row in self.roster.nodes() if row.name == "a")


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def node(tmp_path: Path, postgres_url: str, port: int) -> Iterator[Node]:
    node = Node(tmp_path, postgres_url, port)
    yield node
    node.roster.close()
    node.index.close()


def test_a_study_of_which_all_is_here_is_taken_and_the_jobs_of_the_dead_node_are_cancelled(
    node: Node, port: int, free_port: Callable[[], int]
) -> None:
    own = free_port()
    with pacs(own, SC_IMAGE, ae_title="NODE") as receiver:
        with archive(port, own, image(1), image(2)):
            for number in (1, 2):  # as the receiver and the sweep of a whole node do
                node.receive(number)
            assert node.take_over() == {"owed": 2, "here": 2, "jobs cancelled": 1}
        assert len(receiver.received) == 2
    assert node.cancelled == ["1.2"]
    assert node.roster.find("a", "1.2") is None


def test_a_study_of_which_something_is_missing_stays_with_its_reason(
    node: Node, port: int, free_port: Callable[[], int]
) -> None:
    own = free_port()
    node.receive(1)
    with pacs(own, SC_IMAGE, ae_title="NODE"), archive(port, own, image(1)):
        assert node.take_over() == {"owed": 2, "here": 1}
    assert node.cancelled == []
    assert node.reason == ("PACS has 1 of its 2 instances; start a again, or send the rest")


def test_a_pacs_that_is_down_costs_a_try(node: Node) -> None:
    assert node.take_over() == {}
    assert "study.fetch_from" in node.reason
    study = node.roster.find("a", "1.2")
    assert study is not None
    assert study.tries == 1
