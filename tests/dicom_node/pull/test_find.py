from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from dicom_node.certificates import server_context
from dicom_node.errors import DestinationDownError
from dicom_node.pull.asked import Wanted
from dicom_node.pull.find import Finder
from dicom_node.pull.slices import Slice
from tests.support.archived import Answering, answering, archive_at
from tests.support.certificates import certificates

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

DAY = Slice(day=date(2024, 1, 2))
WANTED = Wanted(since=DAY.day, until=DAY.day, modality="US", description="*LIVER*")


@pytest.fixture
def asked(free_port: Callable[[], int]) -> Iterator[tuple[Answering, Finder]]:
    port = free_port()
    with answering(port) as archive:
        for number in range(4):
            archive.add(f"1.2.{number}", "20240102", f"0{number}0000", "US LIVER")
        finder = Finder(archive_at(port), calling_ae_title="NODE")
        yield archive, finder
        finder.close()


def test_a_question_names_the_day_and_asks_for_no_patient(
    asked: tuple[Answering, Finder],
) -> None:
    archive, finder = asked
    answer = finder.studies(DAY, WANTED)
    assert answer.is_whole
    assert {one.instances for one in answer.studies.values()} == {3}
    assert {one.modalities for one in answer.studies.values()} == {frozenset({"US", "SR"})}
    [query] = archive.asked
    assert (query.StudyDate, query.ModalitiesInStudy) == ("20240102", "US")
    assert query.StudyDescription == "*LIVER*"
    assert not [one for one in query if one.keyword.startswith("Patient")]


def test_an_hour_is_asked_for_with_its_last_fraction(asked: tuple[Answering, Finder]) -> None:
    archive, finder = asked
    answer = finder.studies(Slice(day=DAY.day, hour=2), WANTED)
    assert list(answer.studies) == ["1.2.2"]
    assert archive.asked[0].StudyTime == "020000-025959.999999"


@pytest.mark.parametrize("status", [0xA700, 0xFE00, 0xC001])
def test_an_archive_that_says_so_has_more(asked: tuple[Answering, Finder], status: int) -> None:
    archive, finder = asked
    archive.limit, archive.cut_status = 2, status
    answer = finder.studies(DAY, WANTED)
    assert (len(answer.studies), answer.is_whole) == (2, False)


def test_an_archive_that_does_not_understand_is_said(asked: tuple[Answering, Finder]) -> None:
    archive, finder = asked
    archive.limit, archive.cut_status = 0, 0xA900
    with pytest.raises(DestinationDownError, match="C-FIND with 0xA900"):
        finder.studies(DAY, WANTED)


def test_an_archive_that_tells_little_is_taken_as_it_is(asked: tuple[Answering, Finder]) -> None:
    archive, finder = asked
    archive.lacks = ("NumberOfStudyRelatedInstances", "ModalitiesInStudy", "StudyTime")
    one = finder.studies(DAY, WANTED).studies["1.2.0"]
    assert (one.instances, one.modalities, one.time) == (None, frozenset(), "")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_answer_that_bears_no_uid_is_passed_over(asked: tuple[Answering, Finder]) -> None:
    archive, finder = asked
    archive.add("../1.2", "20240102", "090000", "US LIVER")
    assert len(finder.studies(DAY, WANTED).studies) == 4


def test_an_archive_is_asked_over_tls(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, made = free_port(), certificates(tmp_path)
    context = server_context(made.settings(1, callers_ca=None))
    with answering(port, context) as archive:
        archive.add("1.2.3", "20240102", "090000", "US LIVER")
        at = archive_at(port).model_copy(update={"tls": made.towards()})
        finder = Finder(at, calling_ae_title="NODE")
        assert list(finder.studies(DAY, WANTED).studies) == ["1.2.3"]
        finder.close()


def test_nobody_there_is_said_with_the_key(free_port: Callable[[], int]) -> None:
    finder = Finder(archive_at(free_port()), calling_ae_title="NODE")
    with pytest.raises(DestinationDownError, match="archives: pacs, and that the archive knows"):
        finder.studies(DAY, WANTED)
