import os
from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.node.locks import is_owned, locked, owned


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    data, in_use = tmp_path / "data", "in use by another node"
    with owned(data), pytest.raises(ConfigError, match=in_use), owned(data):
        pass
    with owned(data):
        pass


def test_a_folder_that_cannot_be_written_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written"), owned(tmp_path / "data"):
        pass


def test_a_new_folder_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    with owned(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        assert (tmp_path / "data" / "node.lock").stat().st_mode & 0o077 == 0


def test_a_lock_is_free_when_its_owner_died(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "lock", wait_for_it=False):
            os._exit(0)
    os.waitpid(child, 0)
    with locked(tmp_path / "lock", wait_for_it=False):
        pass


def test_whether_a_folder_has_an_owner_is_seen_without_becoming_it(tmp_path: Path) -> None:
    assert not is_owned(tmp_path)
    with owned(tmp_path):
        assert is_owned(tmp_path)
    assert not is_owned(tmp_path)
