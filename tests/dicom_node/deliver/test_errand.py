"""What an attempt makes of the outbox, and of what else is owed to a destination."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config import AnyDestination, Config, NodeSettings
from dicom_node.deliver import run_errand
from dicom_node.outbox import DeliveryRow, DeliveryState, Errand, Outbox
from tests.support.owed import SEG, result
from tests.support.pacs import Pacs, pacs

pytestmark = [
    pytest.mark.dimse,
    # as in test_dimse.py
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox with two studies that are owed."""
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    for number in range(2):
        owed = result(tmp_path, f"1.{number}", study=f"2.{number}")
        box.add([owed], [(owed, "pacs")], analysed=f"3.{number}", models="m", now=now())
    yield box
    box.close()


@pytest.fixture
def peer(free_port: Callable[[], int]) -> Iterator[Pacs]:
    with pacs(free_port(), SEG) as running:
        yield running


@pytest.fixture
def down(free_port: Callable[[], int]) -> AnyDestination:
    with pacs(free_port(), SEG) as gone:
        return gone.destination


def now() -> datetime:
    return datetime.now(UTC)


def attempt(outbox: Outbox, destination: AnyDestination, errand: Errand) -> dict[str, int]:
    config = Config(node=NodeSettings(), destinations=(destination,))
    return run_errand(outbox, config, errand, rng=random.Random(0))


def row_of(outbox: Outbox, errand: Errand) -> DeliveryRow:
    [row] = outbox.rows(study=errand.study_instance_uid)
    return row


def test_a_destination_that_is_down_costs_one_attempt_and_the_others_wait(
    outbox: Outbox, down: AnyDestination
) -> None:
    first, second = outbox.due(now())
    for errand in (first, second):
        outbox.lease(errand, now())
    assert attempt(outbox, down, first)["temporary"] == 1
    assert attempt(outbox, down, second) == {}
    assert [row_of(outbox, errand).attempts for errand in (first, second)] == [1, 0]
    [outage] = outbox.outages.all()
    assert outage.reason.startswith("no connection")
    assert row_of(outbox, second).due_at <= now()
    assert outbox.due(now()) == []


def test_an_answer_ends_an_outage_and_whatever_it_says(outbox: Outbox, peer: Pacs) -> None:
    for status in (0xA700, 0x0000):
        outbox.outages.failed("pacs", reason="", now=now(), rng=random.Random(0))
        [errand, *_] = outbox.due(datetime(2100, 1, 1, tzinfo=UTC))
        outbox.outages.let_through([errand], datetime(2100, 1, 1, tzinfo=UTC))
        peer.answer = lambda _, status=status: status
        assert sum(attempt(outbox, peer.destination, errand).values()) == 1
        assert outbox.outages.all() == []


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0xA700, DeliveryState.WAITING),
        (0x0110, DeliveryState.WAITING),
        (0xC000, DeliveryState.DEAD),
        (0xA900, DeliveryState.DEAD),
        (0x0000, DeliveryState.DELIVERED),
    ],
)
def test_what_is_temporary_is_never_given_up_and_what_is_permanent_is_at_once(
    outbox: Outbox, peer: Pacs, status: int, state: DeliveryState
) -> None:
    peer.answer = lambda _: status
    errand, _ = outbox.due(now())
    for _ in range(20 if state is DeliveryState.WAITING else 1):
        attempt(outbox, peer.destination, errand)
    row = row_of(outbox, errand)
    assert (row.state, row.status) == (state, status)
    assert row.attempts == (20 if state is DeliveryState.WAITING else 1)


def test_an_errand_that_found_nothing_to_send_lets_another_find_out(
    outbox: Outbox, down: AnyDestination
) -> None:
    first, second = outbox.due(now())
    outbox.outages.failed("pacs", reason="", now=now(), rng=random.Random(0))
    late = datetime(2100, 1, 1, tzinfo=UTC)
    outbox.outages.let_through([first], late)
    outbox.delivered("1.0", "pacs", status=0, now=now())
    assert attempt(outbox, down, first) == {}
    assert outbox.outages.let_through([second], now()) == [second]
