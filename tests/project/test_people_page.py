"""What docs/page.md says of the page is what the code does."""

import re
from pathlib import Path

import yaml

from dicom_node import config
from dicom_node.page.desk import Desk
from dicom_node.page.forms import MOST_BYTES
from dicom_node.page.headers import POLICY
from dicom_node.page.patience import PATIENCE_S
from dicom_node.page.run import MOST_CONNECTIONS
from dicom_node.page.users import LONGEST_PASSWORD, SHORTEST_PASSWORD
from dicom_node.page_settings import PageSettings, Role, TrustedProxy
from tests.support.page import node_in

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "page.md").read_text("utf-8")


def test_it_names_every_role_and_every_key() -> None:
    table = TEXT.split("## Who may do what")[1].split("```")[0]
    assert re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE) == list(Role)
    keys = TEXT.split("| key | what |")[1].split("\n\n")[0]
    first = [line.split("|")[1] for line in keys.splitlines()[2:]]
    assert re.findall(r"`([a-z_]+)`", "".join(first)) == list(PageSettings.model_fields)
    [shown] = yaml.safe_load(TEXT.split("## Configuration")[1].split("```")[1]).values()
    assert set(shown) == set(PageSettings.model_fields)
    assert set(shown["trusted_proxy"]) == set(TrustedProxy.model_fields)
    PageSettings.model_validate(shown)


def test_the_example_configuration_names_every_key_with_its_default() -> None:
    path = REPOSITORY / "deploy" / "node.yaml"
    example = yaml.safe_load(path.read_text("utf-8"))["page"]
    assert example == PageSettings().model_dump(mode="json")
    assert config.load(path).page == PageSettings()


def test_it_says_the_limits_that_hold(tmp_path: Path) -> None:
    desk = Desk(node_in(tmp_path))
    attempts, requests = desk.attempts, desk.requests
    desk.close()
    assert (
        f"{attempts.at_once:g} wrong attempts at once, then one each {1 / attempts.a_second:g} s"
        in TEXT
    )
    assert f"{requests.at_once:g} requests at once, then {requests.a_second:g} a second" in TEXT
    assert f"{MOST_CONNECTIONS} connections" in TEXT
    assert f"a whole request within {PATIENCE_S:g} s" in TEXT
    assert f"{MOST_BYTES // 1024} KiB at most" in TEXT
    assert f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters" in TEXT
    assert "Content-Security-Policy" in TEXT
    assert "unsafe" not in POLICY
