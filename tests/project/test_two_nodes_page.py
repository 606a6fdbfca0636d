"""docs/two-nodes.md does what it says."""

import re
from pathlib import Path

import pytest
import yaml

from dicom_node import config, jobs
from dicom_node.node import vigil
from dicom_node.roster.tables import METADATA

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "two-nodes.md").read_text("utf-8")
CODE = "".join(path.read_text("utf-8") for path in (REPOSITORY / "dicom_node").rglob("*.py"))


def test_its_example_is_a_configuration(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "node.yaml").write_text(example)
    read = config.load(tmp_path / "node.yaml")
    assert read.node.name == yaml.safe_load(example)["node"]["name"]
    assert read.study.fetch_from is not None


@pytest.mark.parametrize("key", ["node.name", "node.dead_after_s", "study.fetch_from", "database"])
def test_every_key_stands_there_with_its_default(key: str) -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (\S+) \|", TEXT, re.MULTILINE))
    value = config.Config().model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    assert rows[key] == ("null" if value is None else str(value))


def test_the_lines_of_the_log_that_it_names_are_written() -> None:
    named = set(re.findall(r"line `([a-z ]+)`", TEXT))
    assert len(named) == 5
    for words in named:
        assert f'"{words}' in CODE, words


def test_the_numbers_that_it_names_are_those_of_the_code() -> None:
    assert f"begun again {jobs.MAX_RECOVERY_ATTEMPTS} times" in TEXT
    assert f"every {vigil.AGAIN_S / 60:.0f} minutes" in TEXT
    assert vigil._BEATS == 6, "six times in node.dead_after_s"
    assert "half a second" in TEXT
    assert vigil.ROUND_S == 0.5


def test_the_tables_hold_no_identity() -> None:
    columns = {column.name for table in METADATA.tables.values() for column in table.columns}
    assert not {name for name in columns if "patient" in name or "accession" in name}
    assert METADATA.schema is not None
    assert f"schema `{METADATA.schema}`" in TEXT
