"""docs/delivery.md says what the code does."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from dicom_node import config
from dicom_node.config import DicomwebDestination
from dicom_node.deliver.outcome import STATUSES
from dicom_node.deliver.stow_answers import HTTP_STATUSES
from dicom_node.destinations import Destination

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "delivery.md").read_text("utf-8")


def test_the_tables_of_answers_are_those_that_the_node_runs_on() -> None:
    expected = [
        f"| {span(low, high, '0x{:04X}'.format)} | {verdict} | {reason or 'stored'} |"
        for low, high, verdict, reason in STATUSES
    ]
    expected += [
        f"| {span(low, high, str)} | {verdict} | {reason or 'stored'} | {clause} |"
        for low, high, verdict, reason, clause in HTTP_STATUSES
    ]
    assert re.findall(r"^\| (?:0x|\d).*", TEXT, re.MULTILINE) == expected


def span(low: int, high: int, shown: Callable[[int], str]) -> str:
    return shown(low) if low == high else f"{shown(low)} to {shown(high)}"


def test_every_key_of_a_dicomweb_destination_stands_there_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|", TEXT, re.MULTILINE))
    own = set(DicomwebDestination.model_fields) - set(Destination.model_fields)
    assert set(rows) == own
    for name in own:
        field = DicomwebDestination.model_fields[name]
        assert rows[name] == ("none" if field.is_required() else "null")


def test_its_example_is_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "node.yaml").write_text(example)
    [destination] = config.load(tmp_path / "node.yaml").destinations
    assert isinstance(destination, DicomwebDestination)
