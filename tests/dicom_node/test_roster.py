from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dicom_node.errors import ConfigError, DatabaseDownError
from dicom_node.roster import NodeRow, Roster
from dicom_node.roster.tables import NODE, UNFINISHED

pytestmark = pytest.mark.peers

LONG_S = 60.0


@pytest.fixture
def enter(postgres_url: str) -> Iterator[Callable[..., Roster]]:
    """Return a function that lets a node of a name join."""
    opened: list[Roster] = []

    def join(name: str, installation: str = "") -> Roster:
        roster = Roster(postgres_url, name)
        opened.append(roster)
        roster.join(
            installation=installation or f"2.25.{name}", ae_title=name.upper(), dead_after_s=LONG_S
        )
        return roster

    yield join
    for roster in opened:
        roster.close()


def silence(roster: Roster, name: str) -> None:
    """Let the last sign of life of a node be older than it may be."""
    beat_at = NODE.c.beat_at - timedelta(seconds=LONG_S + 1)
    with roster._engine.begin() as connection:
        connection.execute(sa.update(NODE).where(NODE.c.name == name).values(beat_at=beat_at))


def settle(roster: Roster) -> None:
    """Let every try be some minutes old."""
    tried_at = UNFINISHED.c.tried_at - timedelta(minutes=6)
    with roster._engine.begin() as connection:
        connection.execute(sa.update(UNFINISHED).values(tried_at=tried_at))


def only(rows: list[NodeRow], name: str) -> NodeRow:
    [found] = [row for row in rows if row.name == name]
    return found


def test_a_node_that_was_silent_for_long_is_dead_for_the_others_until_it_beats(
    enter: Callable[..., Roster],
) -> None:
    a, b = enter("a"), enter("b")
    a.list_unfinished({"1.2": 3})
    assert b.dead(LONG_S) == []
    silence(b, "a")
    [dead] = b.dead(LONG_S)
    assert (dead.name, dead.ae_title, dead.unfinished) == ("a", "A", 1)
    assert dead.silent_s > LONG_S
    assert a.dead(LONG_S) == [], "no node is dead for itself"
    a.beat()
    assert b.dead(LONG_S) == []


def test_a_dead_node_that_left_nothing_is_left_alone(enter: Callable[..., Roster]) -> None:
    a, b = enter("a"), enter("b")
    a.list_unfinished({"1.2": 3})
    a.list_unfinished({})
    silence(b, "a")
    assert b.dead(LONG_S) == []


def test_of_two_that_live_one_takes_over_and_the_other_when_that_one_dies_too(
    enter: Callable[..., Roster],
) -> None:
    a, b, c = enter("a"), enter("b"), enter("c")
    a.list_unfinished({"1.2": 3})
    silence(b, "a")
    [dead] = b.dead(LONG_S)
    assert b.claim(dead, LONG_S)
    assert b.claim(dead, LONG_S), "its own claim does not keep it away"
    assert not c.claim(dead, LONG_S)
    silence(c, "b")
    assert c.claim(dead, LONG_S)
    assert only(a.nodes(), "a").claimed_by == "c"
    a.beat()
    assert only(a.nodes(), "a").claimed_by is None
    assert not c.claim(dead, LONG_S), "it lives"


def test_only_what_changed_is_written(enter: Callable[..., Roster]) -> None:
    a = enter("a")
    statements: list[str] = []
    a.list_unfinished({"1.2": 3, "1.3": 1})
    sa.event.listen(a._engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    a.list_unfinished({"1.2": 3, "1.3": 1})
    assert statements == []
    a.list_unfinished({"1.2": 4, "1.3": 1})
    assert len(statements) == 1
    a.list_unfinished({"1.2": 4})
    assert len(statements) == 2


def test_a_node_that_starts_again_strikes_what_it_has_finished_meanwhile(
    enter: Callable[..., Roster],
) -> None:
    enter("a").list_unfinished({"1.2": 3, "1.3": 1})
    again = enter("a")
    again.list_unfinished({"1.3": 1})
    assert only(again.nodes(), "a").unfinished == 1


def test_what_was_taken_over_is_owed_no_more_and_named_to_its_node_once(
    enter: Callable[..., Roster],
) -> None:
    a, b = enter("a"), enter("b")
    a.list_unfinished({"1.2": 3, "1.3": 1})
    study = b.find("a", "1.2")
    assert study is not None
    b.take(study)
    assert b.find("a", "1.2") is None
    assert [owed.study_instance_uid for owed in b.owed("a", again_after_s=60)] == ["1.3"]
    row = only(b.nodes(), "a")
    assert (row.unfinished, row.taken) == (1, 1)
    a.list_unfinished({"1.3": 1})
    assert a.returned() == [], "who took it may not have cancelled the jobs yet"
    settle(a)
    assert a.returned() == ["1.2"]
    again = {owed.study_instance_uid for owed in b.owed("a", again_after_s=3600)}
    assert again == {"1.2", "1.3"}, "when it dies once more, nobody waits"
    assert a.returned() == []
    a.list_unfinished({"1.3": 1})
    row = only(b.nodes(), "a")
    assert (row.unfinished, row.taken) == (1, 0)


def test_what_no_pacs_has_stays_listed_with_its_reason_and_is_tried_again_later(
    enter: Callable[..., Roster],
) -> None:
    a, b = enter("a"), enter("b")
    a.list_unfinished({"1.2": 3})
    [study] = b.owed("a", again_after_s=60)
    b.leave(study, reason="PACS has 1 of its 3 instances")
    row = only(b.nodes(), "a")
    assert (row.unfinished, row.reason) == (1, "PACS has 1 of its 3 instances")
    assert b.owed("a", again_after_s=60) == []
    settle(b)
    [again] = b.owed("a", again_after_s=60)
    assert (study.tries, again.tries) == (0, 1)


def test_a_name_that_a_living_node_has_is_refused(enter: Callable[..., Roster]) -> None:
    enter("a")
    with pytest.raises(ConfigError, match=r"node\.name: .*'a'.*name of its own"):
        enter("a", "2.25.another")


def test_a_node_that_lost_its_disk_leaves_its_studies_to_be_taken_over(
    enter: Callable[..., Roster],
) -> None:
    enter("a", "2.25.111111111111111").list_unfinished({"1.2": 3})
    b = enter("b")
    silence(b, "a")
    anew = enter("a", "2.25.9")
    anew.list_unfinished({})
    [lost] = anew.dead(LONG_S)
    assert (lost.name, lost.unfinished) == ("a~111111111111", 1)
    assert only(b.nodes(), "a").unfinished == 0


def test_a_server_that_is_down_is_said_with_its_cure(free_port: Callable[[], int]) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/nothing"
    with pytest.raises(DatabaseDownError, match="database:"), closing(Roster(url, "a")):
        pass
