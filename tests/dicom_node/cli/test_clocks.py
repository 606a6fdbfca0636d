"""The clocks of destinations, as the check tells them."""

from collections.abc import Callable, Iterator

import pytest

from dicom_node.cli.destinations import destinations
from dicom_node.config import Config
from tests.support.stow_server import Reply, StowServer, stow_server


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[StowServer]:
    with stow_server(free_port()) as server:
        server.answer = lambda _: Reply(model=[])
        yield server


def told_of(server: StowServer) -> str:
    [(_, fault, found)] = destinations(Config(destinations=(server.destination,)))
    assert fault == ""
    assert "answers QIDO-RS" in found
    return found


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(3600, "s ahead of the node's"), (-90, "s behind the node's")]
)
def test_a_clock_that_is_off_is_a_warning_with_the_figure(
    server: StowServer, ahead_s: int, said: str
) -> None:
    server.ahead_s = ahead_s
    found = told_of(server)
    assert said in found
    seconds = int(found.partition("its clock is ")[2].split()[0])
    # a question takes its time, and the server tells whole seconds
    assert abs(ahead_s) - 10 <= seconds <= abs(ahead_s)
    assert "warning: " in found


@pytest.mark.parametrize("ahead_s", [0, 3, -3])
def test_a_clock_that_is_kept_right_is_not_spoken_of(server: StowServer, ahead_s: int) -> None:
    server.ahead_s = ahead_s
    assert "clock" not in told_of(server)


def test_an_answer_out_of_a_cache_tells_no_time(server: StowServer) -> None:
    server.ahead_s = -3600
    server.answer = lambda _: Reply(model=[], headers={"Age": "3600"})
    assert "clock" not in told_of(server)


def test_a_server_whose_date_is_none_is_not_doubted(server: StowServer) -> None:
    server.answer = lambda _: Reply(model=[], headers={"Date": "never"})
    assert "clock" not in told_of(server)
