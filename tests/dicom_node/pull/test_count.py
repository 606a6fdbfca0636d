from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from dicom_node.backoff import Patience
from dicom_node.config import Config, CountAt, Destination, NodeSettings, StudySettings
from dicom_node.errors import DestinationDownError
from dicom_node.index import Arrival, Index
from dicom_node.outbox import Outbox
from dicom_node.pull import Lull, count_instances, count_study
from dicom_node.pull.count import STUDY_ROOT_FIND
from dicom_node.records import Instance, Result, ResultKind
from tests.support.scp import shut_down

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Answers = dict[str, Sequence[int | None]]


@contextmanager
def finder(port: int, answers: Answers) -> Iterator[list[Dataset]]:
    """Run a PACS that gives, at each level, one answer for each number; yield its questions."""
    asked: list[Dataset] = []
    keywords = {
        "STUDY": "NumberOfStudyRelatedInstances",
        "SERIES": "NumberOfSeriesRelatedInstances",
    }

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.append(event.identifier)
        level = event.identifier.QueryRetrieveLevel
        for number in answers.get(level, ()):
            found = Dataset()
            found.QueryRetrieveLevel = level
            setattr(found, keywords[level], number)
            yield 0xFF00, found

    ae = AE("PACS")
    ae.add_supported_context(STUDY_ROOT_FIND)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield asked
    finally:
        shut_down(ae)


def at(port: int) -> CountAt:
    return CountAt(ae_title="PACS", host="127.0.0.1", port=port, timeout_s=3.0)


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        ({"STUDY": [12]}, 12),
        ({"STUDY": [None], "SERIES": [3, 4]}, 7),
        ({"STUDY": [None], "SERIES": [3, None]}, None),
        ({}, None),
    ],
)
def test_a_pacs_counts_by_study_or_else_by_series(
    free_port: Callable[[], int], answers: Answers, count: int | None
) -> None:
    port = free_port()
    with finder(port, answers) as asked:
        assert count_instances("1.2", at(port), calling_ae_title="NODE") == count
    assert {str(query.StudyInstanceUID) for query in asked} == {"1.2"}
    assert all("PatientID" not in query for query in asked)


def test_nobody_there_is_said(free_port: Callable[[], int]) -> None:
    with pytest.raises(DestinationDownError, match=r"study\.count_at"):
        count_instances("1.2", at(free_port()), calling_ae_title="NODE")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    instance = Instance(
        sop_instance_uid="1.5",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        series_instance_uid="1.3",
        study_instance_uid="1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_id="0" * 24,
        path=tmp_path / "x.dcm",
        sha256="0" * 64,
        size_bytes=1,
        received_at=NOW,
    )
    index.register([Arrival(instance=instance, patient_id="")])
    yield index
    index.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.db", tmp_path)
    yield outbox
    outbox.close()


def config_for(port: int) -> Config:
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    return Config(node=NodeSettings(), study=StudySettings(count_at=at(port)), destinations=(pacs,))


LULL = Lull(study_instance_uid="1.2", last_received_at=NOW.isoformat())


def test_the_results_that_we_sent_there_are_not_counted(
    index: Index, outbox: Outbox, free_port: Callable[[], int], tmp_path: Path
) -> None:
    port = free_port()
    ours = Result(
        kind=ResultKind.SR,
        sop_instance_uid="1.77",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid="1.2",
        source_sop_instance_uid="1.5",
        path=tmp_path / "1.77.dcm",
    )
    outbox.add([ours], [(ours, "pacs")], analysed="1.5", models="m", now=NOW)
    outbox.delivered("1.77", "pacs", status=0, now=NOW)
    with finder(port, {"STUDY": [2]}):
        counts = count_study(index, outbox, config_for(port), LULL, patience=Patience())
    assert counts == {"counted": 2, "results_of_ours": 1}
    assert index.evidence.counted(["1.2"])["1.2"].instances == 1


def test_a_study_that_went_on_is_not_asked_for(
    index: Index, outbox: Outbox, free_port: Callable[[], int]
) -> None:
    port = free_port()
    over = Lull(study_instance_uid="1.2", last_received_at=datetime.now(UTC).isoformat())
    with finder(port, {"STUDY": [1]}) as asked:
        assert count_study(index, outbox, config_for(port), over, patience=Patience()) == {}
        index.complete("1.2", reason="", evidence={}, now=NOW)
        assert count_study(index, outbox, config_for(port), LULL, patience=Patience()) == {}
    assert asked == []


def test_a_pacs_that_did_not_answer_is_left_alone_for_a_while(
    index: Index, outbox: Outbox, free_port: Callable[[], int]
) -> None:
    port, patience = free_port(), Patience()
    assert count_study(index, outbox, config_for(port), LULL, patience=patience) == {}
    assert not patience.is_over()
    with finder(port, {"STUDY": [1]}) as asked:
        assert count_study(index, outbox, config_for(port), LULL, patience=patience) == {}
    assert asked == []
    assert index.evidence.counted(["1.2"]) == {}
