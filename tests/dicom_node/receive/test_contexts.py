import pytest
from pynetdicom.presentation import build_context

from dicom_node.receive.contexts import TRANSFER_SYNTAXES, contexts_for, is_storage


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.6.1",
        "1.2.840.10008.5.1.4.1.1.3.1",
        "1.2.840.10008.5.1.4.1.1.6",
        "1.2.840.10008.5.1.4.1.1.3",
        "1.2.840.10008.5.1.4.1.1.6.2",
        "1.2.840.10008.5.1.4.1.1.88.11",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2.840.10008.5.1.4.1.1.7.4",
        "1.2.840.10008.5.1.4.1.1.11.1",
        "1.3.46.670589.5.0.3",
        "1.2.840.113619.4.2",
        "1.2.03",
    ],
)
def test_what_an_ultrasound_archive_holds_is_taken(uid: str) -> None:
    assert is_storage(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.1",
        "1.2.840.10008.1.20.1",
        "1.2.840.10008.5.1.4.1.2.2.1",
        "1.2.840.10008.5.1.4.31",
        "1.2.840.10008.5.1.4.1.1.200.4",
        "1.2.840.10008.1.2.1",
        "../../evil",
        "",
    ],
)
def test_what_is_no_instance_is_not_taken(uid: str) -> None:
    assert not is_storage(uid)


def test_explicit_comes_before_implicit_and_deflated_never() -> None:
    explicit, implicit = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
    assert TRANSFER_SYNTAXES.index(explicit) < TRANSFER_SYNTAXES.index(implicit)
    assert not {
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.205",
    } & set(TRANSFER_SYNTAXES)
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)


@pytest.mark.parametrize("last", ["4.110", "4.112", "4.100", "4.108", "4.202", "4.57", "4.70", "2"])
def test_every_family_of_compression_is_offered(last: str) -> None:
    assert f"1.2.840.10008.1.2.{last}" in TRANSFER_SYNTAXES


def test_only_what_is_proposed_is_supported_and_verification_always() -> None:
    proposed = [
        build_context("1.2.840.10008.5.1.4.1.1.6.1"),
        build_context("1.2.840.10008.5.1.1.1"),
    ]
    supported = [str(context.abstract_syntax) for context in contexts_for(proposed)]
    assert supported == ["1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.1.1"]


def test_what_peers_say_of_instances_is_taken_uncompressed() -> None:
    notices = ["1.2.840.10008.1.20.1", "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"]
    supported = contexts_for([build_context(uid) for uid in notices])
    assert [str(context.abstract_syntax) for context in supported[:-1]] == notices
    assert {uid for c in supported[:-1] for uid in c.transfer_syntax} == {
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2",
    }
