import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.errors import ConfigError, OvertakenError
from dicom_node.harvest import PrivateNotes
from dicom_node.store import Source

WORDS = (Source.STUDY_DESCRIPTION, "US ABDO")
ABDOMEN, LIVER, NONE = frozenset({"abdomen"}), frozenset({"liver"}), frozenset[str]()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[PrivateNotes]:
    notes = PrivateNotes(tmp_path / "harvest.db")
    yield notes
    notes.close()


def test_the_history_says_who_decided_what_and_when(notes: PrivateNotes) -> None:
    before = datetime.now(UTC)
    notes.book.decide(*WORDS, ABDOMEN, who="ann")
    notes.book.decide(Source.STUDY_DESCRIPTION, " us  abdo", NONE, who="ben")
    lines = notes.book.history()
    assert [(line.who, line.words, line.groups) for line in lines] == [
        ("ben", "US ABDO", NONE),
        ("ann", "US ABDO", ABDOMEN),
    ]
    assert all(before <= (line.decided_at or before) <= datetime.now(UTC) for line in lines)
    assert notes.book.history(before=lines[0].number) == lines[1:]
    assert notes.book.history(most=1) == lines[:1]
    assert notes.decisions() == {WORDS: NONE}
    assert "ABDO" not in repr(lines)


def test_undo_brings_back_what_held_before_step_by_step(notes: PrivateNotes) -> None:
    first = notes.book.decide(*WORDS, ABDOMEN, who="ann")
    second = notes.book.decide(*WORDS, LIVER, who="ben")
    undone = notes.book.undo(second.number, who="ann")
    assert (undone.groups, undone.undoes, undone.who) == (ABDOMEN, second.number, "ann")
    assert notes.decisions() == {WORDS: ABDOMEN}
    assert notes.book.last_of() == first
    assert notes.book.last_of("ben") is None
    assert notes.book.undo(first.number, who="ann").groups is None
    assert notes.decisions() == {}
    assert [line.is_undone for line in notes.book.of(*WORDS)] == [False, False, True, True]
    third = notes.book.decide(*WORDS, NONE, who="ben")
    assert notes.book.undo(third.number, who="ben").groups is None
    assert notes.decisions() == {}


def test_only_what_holds_is_undone_and_only_once(notes: PrivateNotes) -> None:
    first = notes.book.decide(*WORDS, ABDOMEN, who="ann")
    second = notes.book.decide(*WORDS, LIVER, who="ben")
    with pytest.raises(OvertakenError, match=f"ben .* undo decision {second.number} first"):
        notes.book.undo(first.number, who="ann")
    undone = notes.book.undo(second.number, who="ann")
    with pytest.raises(OvertakenError, match="undone already"):
        notes.book.undo(second.number, who="ann")
    for number in (undone.number, 4711):
        with pytest.raises(ConfigError, match=f"no decision {number}"):
            notes.book.undo(number, who="ann")
    assert notes.decisions() == {WORDS: ABDOMEN}


def test_of_two_who_decide_at_once_the_second_is_told_and_nothing_is_overwritten(
    notes: PrivateNotes,
) -> None:
    seen = notes.book.version(*WORDS)
    notes.book.decide(*WORDS, ABDOMEN, who="ann", after=seen)
    with pytest.raises(OvertakenError, match="ann decided") as caught:
        notes.book.decide(*WORDS, LIVER, who="ben", after=seen)
    assert "ABDO" not in str(caught.value)
    assert notes.decisions() == {WORDS: ABDOMEN}
    notes.book.decide(*WORDS, LIVER, who="ben", after=notes.book.version(*WORDS))
    assert notes.decisions() == {WORDS: LIVER}
    other = (Source.STUDY_DESCRIPTION, "US HEART")
    notes.book.decide(*other, NONE, who="ben", after=0)
    assert notes.decisions() == {WORDS: LIVER, other: NONE}


def test_a_decision_that_is_sent_twice_is_noted_once(notes: PrivateNotes) -> None:
    for _ in range(2):
        notes.book.decide(*WORDS, ABDOMEN, who="ann", after=0)
    assert len(notes.book.history()) == 1


def test_a_decision_is_to_be_applied_until_it_was(notes: PrivateNotes) -> None:
    first = notes.book.decide(*WORDS, ABDOMEN, who="ann")
    undone = notes.book.undo(first.number, who="ann")
    waiting = notes.book.unapplied()
    assert [line.number for line in waiting] == [first.number, undone.number]
    notes.book.note_applied(waiting[:1])
    assert [line.number for line in notes.book.unapplied()] == [undone.number]


def test_decisions_from_before_there_was_a_history_stand_in_it_and_can_be_undone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "harvest.db"
    with sqlite3.connect(path) as older:
        older.execute(
            "CREATE TABLE decisions (source VARCHAR NOT NULL, term VARCHAR NOT NULL, "
            "groups VARCHAR NOT NULL, PRIMARY KEY (source, term))"
        )
        older.execute("INSERT INTO decisions VALUES ('StudyDescription', 'US ABDO', 'liver')")
    older.close()
    for _ in range(2):
        notes = PrivateNotes(path)
        (line,) = notes.book.history()
        assert (line.groups, line.who, line.decided_at) == (LIVER, "", None)
        assert notes.book.unapplied() == []
        assert notes.book.last_of() == line
        notes.close()
    notes = PrivateNotes(path)
    later = notes.book.decide(*WORDS, NONE, who="ann")
    assert notes.book.undo(later.number, who="ann").groups == LIVER
    assert notes.book.undo(line.number, who="ann").groups is None
    notes.close()
