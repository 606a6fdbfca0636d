from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.index import Index, StudyState
from dicom_node.index.paging import Place
from dicom_node.index.tables import STUDY

#: Studies that share a moment with others: the UID tells them apart.
TIES = 7


def filled(path: Path, count: int) -> Index:
    """Return an index with studies; every third is open, the last came last."""
    index = Index(path)
    rows = (
        {
            "study_instance_uid": f"1.2.840.113619.2.55.{number:06d}.{number * 7919 % 1000003}",
            "patient_id": "",
            "state": "open" if number % 3 == 0 else "complete",
            "revision": 0,
            "finished": 0,
            "first_received_us": number // TIES,
            "last_received_us": number // TIES * 1_000_000,
            "reason": "",
            "evidence": {},
        }
        for number in range(count)
    )
    with index._engine.begin() as connection:
        connection.execute(sa.insert(STUDY), list(rows))
    return index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with closing(filled(tmp_path / "index.db", 100)) as index:
        yield index


def walked(index: Index, *, state: StudyState | None = None, part: str = "") -> list[str]:
    """Return every study, page after page."""
    found: list[str] = []
    after = None
    while rows := index.paging.page(9, after=after, state=state, part=part):
        found += [row.study_instance_uid for row in rows]
        after = Place.of(rows[-1])
    return found


def test_pages_hold_every_study_once_the_latest_first(index: Index) -> None:
    found = walked(index)
    assert len(found) == len({*found}) == 100
    numbers = [int(uid.split(".")[6]) for uid in found]
    assert [number // TIES for number in numbers] == sorted(
        (number // TIES for number in numbers), reverse=True
    )


@pytest.mark.parametrize("state", StudyState)
def test_pages_of_one_state_hold_that_alone(index: Index, state: StudyState) -> None:
    found = walked(index, state=state)
    assert {index.study(uid).state for uid in found} == {state}  # type: ignore[union-attr]
    assert len(found) == (34 if state is StudyState.OPEN else 66)


@pytest.mark.parametrize("few", [1000, 3])
def test_pages_of_a_part_hold_all_and_only_what_has_it(
    index: Index, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.index.paging._FEW", few)
    found = walked(index, part=".00001")
    assert sorted(int(uid.split(".")[6]) for uid in found) == [*range(10, 20)]
    assert walked(index, part="_") == []


def test_a_page_is_found_without_a_walk_over_the_studies_before_it(index: Index) -> None:
    asked: list[tuple[str, object]] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        asked.append((statement, parameters))

    sa.event.listen(index._engine, "before_cursor_execute", note)
    [row] = index.paging.page(1)
    index.paging.page(9, after=Place.of(row))
    sa.event.remove(index._engine, "before_cursor_execute", note)
    with index._engine.connect() as connection:
        for statement, parameters in [one for one in asked if "SELECT" in one[0]]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [str(step.detail) for step in plan]
            assert not [step for step in steps if step.startswith("SCAN study")], steps
            walks = [step for step in steps if "study_by_state" in step]
            assert len(walks) == len(StudyState)
            if "last_received_us <=" in statement:
                assert all("last_received_us<?" in step for step in walks), "begins at the place"
