from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import HarvestSettings
from dicom_node.harvest import open_key
from dicom_node.harvest.desk import DESCRIPTION, LabelDesk, is_harvested, open_desk
from tests.support.described import STEP, describe

#: Study, its description, how many images it has.
STUDIES = (
    ("1", "us abdo", 3),
    ("2", "US  ABDO", 1),
    ("3", "US HEART", 1),
    ("4", "US THYROID BIOPSY", 1),
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[LabelDesk]:
    assert not is_harvested(tmp_path)
    with open_desk(HarvestSettings(), data=tmp_path) as desk:
        assert is_harvested(tmp_path)
        describe(desk, STUDIES)
        yield desk


def test_what_nobody_mapped_is_found_by_frequency_and_by_its_pseudonym(desk: LabelDesk) -> None:
    found = desk.descriptions()
    assert [(one.words, one.studies, one.mapped) for one in found] == [
        ("US ABDO", 2, None),
        ("US HEART", 1, None),
    ]
    assert desk.find(found[1].token) == found[1]
    assert desk.find("0" * 32) is None
    (known,) = desk.descriptions(mapped=True)
    assert known.mapped is not None
    assert (known.words, known.mapped.rule) == ("US THYROID BIOPSY", "corrected")
    assert "ABDO" not in repr(found)


def test_sample_frames_are_of_as_many_studies_as_can_be(desk: LabelDesk) -> None:
    token = desk.token("us abdo")
    study = {frame.frame_id: frame.study for frame in desk.store.frames()}
    two = desk.samples(token, 2)
    assert {study[frame_id] for frame_id in two} == {
        desk.key.token("study", number) for number in "12"
    }
    assert len(set(desk.samples(token, 9))) == 4
    assert desk.samples("0" * 32, 9) == []
    assert set(desk.store.evidence.samples(STEP, token, 9)) == set(desk.samples(token, 9))


def test_a_decision_and_its_undoing_are_in_the_store_at_once(desk: LabelDesk) -> None:
    before = sorted((frame.frame_id, *sorted(frame.groups)) for frame in desk.store.frames())
    abdomen = frozenset({"abdomen"})
    decision = desk.notes.book.decide(DESCRIPTION, "us abdo", abdomen, who="ann")
    assert desk.apply(decision) == 4
    assert desk.apply(decision) == 0
    labelled = [frame for frame in desk.store.frames() if frame.groups == abdomen]
    assert len(labelled) == 4
    said = desk.store.evidence.of(labelled[0].instance)
    assert [(one.groups, one.rule) for one in said] == [(abdomen, "decision")] * 2
    assert desk.apply(desk.notes.book.undo(decision.number, who="ben")) == 4
    after = sorted((frame.frame_id, *sorted(frame.groups)) for frame in desk.store.frames())
    assert after == before
    assert desk.store.evidence.of(labelled[0].instance)[0].groups is None


def test_a_decision_that_was_not_applied_is_applied_later(desk: LabelDesk, tmp_path: Path) -> None:
    desk.notes.book.decide(DESCRIPTION, "us abdo", frozenset({"kidney"}), who="ann")
    with open_desk(HarvestSettings(), data=tmp_path) as another:
        assert another.apply_rest() == 1
        assert another.apply_rest() == 0
    assert sum(frame.groups == {"kidney"} for frame in desk.store.frames()) == 4


def test_the_desk_has_the_key_of_the_harvest(desk: LabelDesk, tmp_path: Path) -> None:
    assert open_key(tmp_path / "pseudonym.key").token("study", "1") == desk.key.token("study", "1")
