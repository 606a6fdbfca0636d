import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.store.records import PSEUDONYM


def test_a_token_is_the_same_only_for_the_same_value_kind_and_key() -> None:
    key = PseudonymKey(b"k" * 32)
    token = key.token("patient", "4711")
    assert PSEUDONYM.fullmatch(token)
    assert token == PseudonymKey(b"k" * 32).token("patient", "4711")
    others = {
        key.token("patient", "4712"),
        key.token("study", "4711"),
        PseudonymKey(b"x" * 32).token("patient", "4711"),
    }
    assert token not in others
    assert len(others) == 3


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    first = open_key(path).token("patient", "4711")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(path).token("patient", "4711") == first
    assert [p.name for p in tmp_path.iterdir()] == ["pseudonym.key"]


def test_many_who_come_first_share_one_key(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    together = Barrier(8)

    def come(_: int) -> str:
        together.wait(10)
        return open_key(path).token("study", "1")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(come, range(8)))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["pseudonym.key"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    open_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_key(path)


@pytest.mark.parametrize("content", ["", "not hexadecimal", "abcd"])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pseudonym.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key"):
        open_key(path)
    assert path.read_text() == content


def test_the_secret_does_not_show_in_the_keys_text() -> None:
    assert "kkkk" not in repr(PseudonymKey(b"k" * 32))
