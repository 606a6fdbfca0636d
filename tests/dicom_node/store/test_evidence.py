from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import StoreError
from dicom_node.records import Geometry
from dicom_node.store import Evidence, Source, Verdict, WeakLabelStore, audit, relabelling
from tests.support.catalogues import edit
from tests.support.frames import new_frame

pytestmark = pytest.mark.usefixtures("engine")

TERMS = {"US KIDNEY": "1" * 32, "RENAL": "2" * 32, "ABD": "3" * 32, "C5-1": "4" * 32}
KIDNEY = frozenset({"abdomen", "kidney"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def _said(source: Source, term: str, groups: frozenset[str] | None = None) -> Evidence:
    return Evidence(source=source, term=TERMS[term], groups=groups, rule="corrected")


def _put(
    store: WeakLabelStore, described: frozenset[str] | None, *said: Evidence, seed: int = 0
) -> str:
    """Store a frame whose Study Description is mapped so, and return its instance."""
    instance = f"{seed:032x}"
    description = _said(Source.STUDY_DESCRIPTION, "US KIDNEY", described)
    store.add_frame(
        new_frame(
            seed=seed,
            instance=instance,
            groups=described or frozenset(),
            description=description.term,
            evidence=(description, *said),
        )
    )
    return instance


def test_what_each_source_says_is_kept_beside_the_groups(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        preset = _said(Source.PROCESSING_FUNCTION, "ABD", frozenset({"abdomen"}))
        instance = _put(store, KIDNEY, preset)
        description = _said(Source.STUDY_DESCRIPTION, "US KIDNEY", KIDNEY)
        assert store.evidence.of(instance) == (preset, description)
        assert store.evidence.of("f" * 32) == ()
        assert store.frames()[0].groups == KIDNEY
    assert audit(folder) == []


@pytest.mark.parametrize(
    ("described", "said", "verdict"),
    [
        (KIDNEY, {"abdomen"}, Verdict.AGREES),
        (KIDNEY, KIDNEY, Verdict.AGREES),
        ({"abdomen", "drainage"}, KIDNEY, Verdict.AGREES),
        ({"abdomen", "liver"}, KIDNEY, Verdict.CONFLICTS),
        ({"chest", "drainage"}, KIDNEY, Verdict.CONFLICTS),
        (KIDNEY, set(), Verdict.CONFLICTS),
        (set(), KIDNEY, Verdict.CONFLICTS),
        (set(), set(), Verdict.AGREES),
        (None, KIDNEY, Verdict.ALONE),
        (KIDNEY, None, Verdict.NOT_MAPPED),
    ],
)
def test_agreement_is_counted(
    folder: Path, described: set[str] | None, said: set[str] | None, verdict: Verdict
) -> None:
    first, second = (None if x is None else frozenset(x) for x in (described, said))
    with WeakLabelStore(folder) as store:
        instance = _put(store, first, _said(Source.IMAGE_TYPE, "RENAL", second))
        assert store.evidence.verdicts() == {(Source.IMAGE_TYPE, verdict): 1}
        conflicting = {instance} if verdict is Verdict.CONFLICTS else set()
        assert store.evidence.conflicting() == conflicting


def test_the_same_words_again_are_no_second_opinion(folder: Path) -> None:
    source = Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION
    with WeakLabelStore(folder) as store:
        _put(store, KIDNEY, _said(source, "US KIDNEY", KIDNEY))
        assert store.evidence.verdicts() == {(source, Verdict.SAME_WORDS): 1}


def test_words_without_a_study_description_stand_alone(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(evidence=(_said(Source.IMAGE_TYPE, "RENAL", KIDNEY),)))
        assert store.evidence.verdicts() == {(Source.IMAGE_TYPE, Verdict.ALONE): 1}


def test_words_get_other_groups_and_no_file_is_touched(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        renal = _said(Source.IMAGE_TYPE, "RENAL")
        instances = [_put(store, None, renal, seed=n) for n in range(3)]
        before = {path: path.stat().st_ctime_ns for path in (folder / "frames").rglob("*")}
        version = store.version()
        known = [_said(Source.STUDY_DESCRIPTION, "US KIDNEY", KIDNEY)]
        known += [
            _said(Source.IMAGE_TYPE, "RENAL", KIDNEY),
            _said(Source.IMAGE_TYPE, "ABD", KIDNEY),
        ]
        assert store.evidence.relabel(known) == 3
        assert store.evidence.relabel(known) == 0
        assert {frame.groups for frame in store.frames()} == {KIDNEY}
        assert store.evidence.verdicts() == {(Source.IMAGE_TYPE, Verdict.AGREES): 3}
        assert {one.groups for one in store.evidence.of(instances[0])} == {KIDNEY}
        assert store.version() != version
        assert {path: path.stat().st_ctime_ns for path in (folder / "frames").rglob("*")} == before


def test_a_store_from_before_there_was_evidence_is_relabelled_too(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(description=TERMS["US KIDNEY"]))
    edit(folder, "DROP TABLE evidence")
    with WeakLabelStore(folder) as store:
        known = _said(Source.STUDY_DESCRIPTION, "US KIDNEY", KIDNEY)
        assert store.evidence.relabel([known]) == 1
        assert store.evidence.of("d" * 32) == (known,)


def test_a_probe_is_put_right_where_its_words_were_met(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        _put(store, None, _said(Source.TRANSDUCER_DATA, "C5-1"))
        _put(store, None, seed=1)
        found = {"probe": "C5-1", "geometry": Geometry.CURVILINEAR, "geometry_rule": "site"}
        assert store.evidence.relabel_probe(TERMS["C5-1"], **found) == 1
        assert store.evidence.relabel_probe(TERMS["C5-1"], **found) == 0
        assert {(f.probe, f.geometry) for f in store.frames()} == {
            ("C5-1", Geometry.CURVILINEAR),
            (None, Geometry.UNKNOWN),
        }
        with pytest.raises(StoreError, match="no token"):
            store.evidence.relabel_probe(TERMS["C5-1"], **(found | {"probe": "DOE^JANE"}))


def test_many_probes_are_put_right_in_parts_so_that_others_can_write_in_between(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabelling, "AT_ONCE", 2)
    found = {"probe": "C5-1", "geometry": Geometry.CURVILINEAR, "geometry_rule": "site"}
    written: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        written.append(statement.split(maxsplit=1)[0])

    with WeakLabelStore(folder) as store:
        for seed in range(5):
            _put(store, None, _said(Source.TRANSDUCER_DATA, "C5-1"), seed=seed)
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            assert store.evidence.relabel_probe(TERMS["C5-1"], **found) == 5
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
        assert {frame.probe for frame in store.frames()} == {"C5-1"}
    assert written.count("UPDATE") == 3


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"term": "US KIDNEY"}, "term is no pseudonym"),
        ({"rule": "Dr. Roe"}, "rule is no token"),
        ({"groups": frozenset({"heart"})}, "groups are not a part"),
    ],
)
def test_what_could_identify_somebody_is_no_evidence(fields: dict[str, object], fault: str) -> None:
    known = {"source": Source.IMAGE_TYPE, "term": TERMS["RENAL"], "groups": None}
    with pytest.raises(StoreError, match=fault):
        Evidence(**(known | fields))


def test_words_that_someone_planted_in_the_evidence_are_found(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        _put(store, KIDNEY)
    edit(folder, "UPDATE evidence SET source = 'a', term = 'DOE^JANE', rule = 'Dr. Roe'")
    found = {finding.where.partition(" ")[2] for finding in audit(folder)}
    assert found == {f"evidence.{name}, row 1" for name in ("source", "term", "rule")}


def test_an_instance_that_is_erased_takes_its_evidence_with_it(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        instance = _put(store, KIDNEY)
    edit(folder, "DELETE FROM sightings", "DELETE FROM frames", "DELETE FROM instances")
    with WeakLabelStore(folder) as store:
        assert store.evidence.of(instance) == ()
