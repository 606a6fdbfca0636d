from pathlib import Path

import pytest

from dicom_node import __version__
from dicom_node.errors import PermanentError
from dicom_node.results import open_installation


def test_an_installation_stays_the_same(tmp_path: Path) -> None:
    first = open_installation(tmp_path / "installation.json")
    assert open_installation(tmp_path / "installation.json") == first
    assert first.uid.startswith("2.25.")
    assert len(first.uid) <= 64
    assert first.software_version == __version__
    assert [path.name for path in tmp_path.iterdir()] == ["installation.json"]


def test_two_installations_differ(tmp_path: Path) -> None:
    assert open_installation(tmp_path / "a.json") != open_installation(tmp_path / "b.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"installation": 3}', '{"installation": "x"}']
)
def test_a_file_that_names_no_installation_is_refused_and_kept(
    content: str, tmp_path: Path
) -> None:
    path = tmp_path / "installation.json"
    path.write_text(content, "utf-8")
    with pytest.raises(PermanentError, match="restore it from a backup"):
        open_installation(path)
    assert path.read_text("utf-8") == content
