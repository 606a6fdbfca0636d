"""docs/harvesting.md does what it says."""

import re
from pathlib import Path

import yaml

from dicom_node import config
from dicom_node.archives import DicomwebArchive, DimseArchive
from dicom_node.backoff import FIRST_RETRY_S
from dicom_node.pull.pulling import MOST_FAILURES, ROUNDS

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "harvesting.md").read_text("utf-8")
FIELDS = (
    DimseArchive.model_fields
    | DicomwebArchive.model_fields
    | {"kind": DimseArchive.model_fields["kind"]}
)


def test_its_example_is_a_configuration(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "node.yaml").write_text(example)
    pacs, web = config.load(tmp_path / "node.yaml").archives
    assert isinstance(pacs, DimseArchive)
    assert isinstance(web, DicomwebArchive)
    assert web.token_file == tmp_path / "pacs.token"


def test_every_key_stands_there_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|", TEXT, re.MULTILINE))
    assert set(rows) == set(FIELDS)
    for name, field in FIELDS.items():
        shown = "null" if field.default is None else str(field.default)
        assert rows[name] == ("none" if field.is_required() else shown), name


def test_the_example_configuration_of_the_node_has_every_key_with_its_default() -> None:
    path = REPOSITORY / "deploy" / "node.yaml"
    [shown] = yaml.safe_load(path.read_text("utf-8"))["archives"]
    [read] = config.load(path).archives
    assert set(shown) == set(DimseArchive.model_fields)
    for name, field in DimseArchive.model_fields.items():
        assert field.is_required() or getattr(read, name) == field.default


def test_the_numbers_that_it_names_are_those_of_the_code() -> None:
    words = " ".join(TEXT.split())
    assert f"for {FIRST_RETRY_S:.0f} s, longer each time, up to {MOST_FAILURES} times" in words
    assert ROUNDS == 2, "once more"
