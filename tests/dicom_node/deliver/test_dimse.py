from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.deliver import Verdict, echo, send
from tests.support.owed import SEG, SR, result
from tests.support.pacs import pacs

pytestmark = pytest.mark.dimse
#: pynetdicom 3.0.4 shuts a refused socket down and leaves closing it to the garbage collector
REFUSED = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def test_a_study_goes_over_one_association_with_contexts_for_what_is_sent_alone(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    results = [result(tmp_path, "1.1"), result(tmp_path, "1.2", SR, "sr")]
    with pacs(free_port(), SEG, SR) as peer:
        outcomes = list(send(results, peer.destination, calling_ae_title="NODE"))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * 2
    assert [dataset.SOPInstanceUID for dataset in peer.received] == ["1.1", "1.2"]
    assert peer.associations == 1
    assert peer.proposed == {SEG, SR}


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0xB000, Verdict.DELIVERED),
        (0x0111, Verdict.DELIVERED),
        (0xA700, Verdict.TEMPORARY),
        (0x0110, Verdict.TEMPORARY),
        (0xA900, Verdict.PERMANENT),
        (0xC000, Verdict.PERMANENT),
        (0x0122, Verdict.PERMANENT),
    ],
)
def test_a_status_means_what_the_standard_says(
    tmp_path: Path, free_port: Callable[[], int], status: int, verdict: Verdict
) -> None:
    with pacs(free_port(), SEG) as peer:
        peer.answer = lambda _: status
        [outcome] = send([result(tmp_path, "1.1")], peer.destination, calling_ae_title="NODE")
    assert (outcome.verdict, outcome.status) == (verdict, status)


def test_a_refused_class_costs_only_its_own_objects(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    results = [result(tmp_path, "1.1"), result(tmp_path, "1.2", SR, "sr")]
    with pacs(free_port(), SR) as peer:
        seg, sr = send(results, peer.destination, calling_ae_title="NODE")
    assert (seg.verdict, sr.verdict) == (Verdict.PERMANENT, Verdict.DELIVERED)
    assert "does not accept SEG" in seg.reason


@REFUSED
def test_a_destination_that_is_down_is_tried_again(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with pacs(free_port(), SEG) as peer:
        destination = peer.destination
    [outcome] = send([result(tmp_path, "1.1")], destination, calling_ae_title="NODE")
    assert (outcome.verdict, outcome.status) == (Verdict.TEMPORARY, None)


def test_a_rejected_ae_title_is_permanent_and_says_the_cure(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with pacs(free_port(), SEG, ae_title="ANOTHER") as peer:
        [outcome] = send([result(tmp_path, "1.1")], peer.destination, calling_ae_title="NODE")
    assert outcome.verdict is Verdict.PERMANENT
    assert "register this AE title" in outcome.reason


def test_a_missing_file_costs_only_itself(tmp_path: Path, free_port: Callable[[], int]) -> None:
    lost, kept = result(tmp_path, "1.1"), result(tmp_path, "1.2")
    lost.path.unlink()
    with pacs(free_port(), SEG) as peer:
        first, second = send([lost, kept], peer.destination, calling_ae_title="NODE")
    assert (first.verdict, second.verdict) == (Verdict.PERMANENT, Verdict.DELIVERED)


@REFUSED
def test_echo_says_nothing_when_the_destination_answers(free_port: Callable[[], int]) -> None:
    with pacs(free_port()) as peer:
        assert echo(peer.destination, calling_ae_title="NODE") == ""
    assert "check host, port" in echo(peer.destination, calling_ae_title="NODE")


def test_a_refused_class_is_named_alone_or_beside_others_by_context_or_by_status(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    seg, sr = result(tmp_path, "1.1"), result(tmp_path, "1.2", SR, "sr")
    with pacs(free_port(), SR) as peer:
        [alone] = send([seg], peer.destination, calling_ae_title="NODE")
        beside, _ = send([seg, sr], peer.destination, calling_ae_title="NODE")
        peer.answer = lambda _: 0x0122
        [by_status] = send([sr], peer.destination, calling_ae_title="NODE")
    found = [(one.is_class_refused, one.sop_class_uid) for one in (alone, beside, by_status)]
    assert found == [(True, uid) for uid in (SEG, SEG, SR)]
    assert {one.verdict for one in (alone, beside, by_status)} == {Verdict.PERMANENT}
