import pytest

from dicom_node.config import Caller
from dicom_node.receive.handlers import is_listed

LIST = (
    Caller(ae_title="SCANNER", host="10.0.0.7"),
    Caller(ae_title="PACS", host="*"),
    Caller(ae_title="*", host="::1"),
    Caller(ae_title="NAMED", host="localhost"),
    Caller(ae_title="LOST", host="no-such-host.invalid"),
)


@pytest.mark.parametrize(
    ("ae_title", "address"),
    [
        ("SCANNER", "10.0.0.7"),
        ("SCANNER ", "::ffff:10.0.0.7"),
        ("PACS", "192.0.2.1"),
        ("ANYBODY", "0:0:0:0:0:0:0:1"),
        ("NAMED", "127.0.0.1"),
    ],
)
def test_a_listed_caller_may_call(ae_title: str, address: str) -> None:
    assert is_listed(LIST, ae_title, address)


@pytest.mark.parametrize(
    ("ae_title", "address"),
    [
        ("SCANNER", "10.0.0.8"),
        ("scanner", "10.0.0.7"),
        ("OTHER", "10.0.0.7"),
        ("NAMED", "192.0.2.1"),
        ("LOST", "192.0.2.1"),
        ("", "10.0.0.7"),
    ],
)
def test_an_unlisted_caller_may_not(ae_title: str, address: str) -> None:
    assert not is_listed(LIST, ae_title, address)


def test_an_empty_list_means_nobody() -> None:
    assert not is_listed((), "ANYBODY", "127.0.0.1")
