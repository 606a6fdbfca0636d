"""docs/commitment.md says what the code does."""

import re
from pathlib import Path

from dicom_node import config
from dicom_node.config import Destination, DicomwebDestination
from dicom_node.deliver.asking_commitment import SAME_ASSOCIATION_S
from dicom_node.deliver.committed import FAILURE_REASONS

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "commitment.md").read_text("utf-8")


def test_the_table_of_failure_reasons_is_the_one_that_the_node_runs_on() -> None:
    expected = [
        f"| 0x{code:04X} | {state} | {reason} |"
        for code, (state, reason) in FAILURE_REASONS.items()
    ]
    assert re.findall(r"^\| 0x.*", TEXT, re.MULTILINE) == expected


def test_every_key_stands_there_with_its_default_and_dicomweb_has_none() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|", TEXT, re.MULTILINE))
    own = {name for name in Destination.model_fields if name.startswith("commitment")}
    assert set(rows) == own
    for name in own:
        assert rows[name] == str(Destination.model_fields[name].default).lower()
    assert not own & set(DicomwebDestination.model_fields)


def test_its_example_is_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "node.yaml").write_text(example)
    read = config.load(tmp_path / "node.yaml")
    [destination] = read.destinations
    assert isinstance(destination, Destination)
    assert destination.commitment
    assert [caller.ae_title for caller in read.node.callers] == [destination.ae_title]


def test_the_line_of_the_log_and_the_moment_that_it_names_are_those_of_the_code() -> None:
    code = (REPOSITORY / "dicom_node" / "deliver" / "committed.py").read_text("utf-8")
    [line] = re.findall(r"line `([a-z ]+)`", TEXT)
    assert f'"{line}"' in code
    assert f"stays open for\n  {SAME_ASSOCIATION_S:g} s" in TEXT
