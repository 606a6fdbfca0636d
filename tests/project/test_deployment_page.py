"""docs/deployment.md names what is there."""

import json
import re
from pathlib import Path

import pytest
import yaml

from dicom_node import config

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
TEXT = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_what_it_links_to_and_installs_is_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (REPOSITORY / "docs" / link).exists(), link
    named = re.findall(r"\bdeploy/[\w./-]*\w", TEXT)
    assert len(named) > 5
    for place in named:
        assert (REPOSITORY / place).exists(), place


def test_its_configuration_is_read_and_lies_where_the_unit_looks_for_it(tmp_path: Path) -> None:
    [example] = blocks("yaml")
    (tmp_path / "node.yaml").write_text(example)
    found = config.load(tmp_path / "node.yaml")
    unit = (DEPLOY / "dicom-node.service").read_text("utf-8")
    assert str(found.node.data) in re.findall(r"^WorkingDirectory=(.*)$", unit, re.MULTILINE)
    [started] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *_, place = started.split()
    install = blocks("sh")[0]
    assert install.count(place) == 1
    assert f"{Path(program).parent}/pip install" in install
    # the commands before the first start run as its user, who can make no folder there
    user = re.findall(r"^User=(.*)$", unit, re.MULTILINE)[0]
    assert f"install --directory --owner={user} --group={user} --mode=0700 {found.node.data}" in (
        install
    )
    # what it leaves out may stay as the example has it
    shipped = yaml.safe_load((DEPLOY / "node.yaml").read_text("utf-8"))
    for section, values in yaml.safe_load(example).items():
        assert section in shipped
        assert not isinstance(values, dict) or {*values} <= {*shipped[section]}


@pytest.mark.parametrize("key", ["DicomModalities", "UserMetadata", "LuaHeartBeatPeriod"])
def test_an_orthanc_of_the_site_gets_the_keys_that_ours_has(key: str) -> None:
    [example] = blocks("json")
    shipped = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text("utf-8"))
    theirs = json.loads(example)
    assert {*theirs} <= {*shipped}
    if key == "DicomModalities":
        [node] = theirs[key].values()
        [ours] = shipped[key].values()
        assert {**node, "Host": ours["Host"]} == ours
    else:
        assert theirs[key] == shipped[key]
