import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.page import app
from dicom_node.cli.page_check import page
from dicom_node.config import load
from dicom_node.database import open_sqlite
from dicom_node.errors import ConfigError, PermanentError
from dicom_node.page.people import opened
from dicom_node.page.sessions import Sessions
from dicom_node.page.tables import METADATA
from dicom_node.page.users import Users
from dicom_node.page_settings import Role
from tests.support.page import PASSWORD


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "node.yaml").write_text("node: {data: ./data}\npage: {}\n")
    return tmp_path / "node.yaml"


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    engine = open_sqlite(tmp_path / "page.db", METADATA)
    yield Users(engine)
    engine.dispose()


def test_a_password_is_kept_as_an_argon2id_hash_alone(users: Users, tmp_path: Path) -> None:
    users.add("ann", Role.LABELLER, PASSWORD)
    assert users.is_right("ann", PASSWORD)
    assert not users.is_right("ann", PASSWORD + "x")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"$argon2id$" in kept
    assert PASSWORD.encode() not in kept


def test_who_has_no_password_comes_in_by_none(users: Users) -> None:
    users.add("ann", Role.VIEWER, None)
    assert not users.is_right("ann", "")
    assert not users.is_right("ann", "the password of nobody")


@pytest.mark.parametrize("password", ["short", "x" * 1025])
def test_a_password_that_will_not_do_is_said_with_what_would(users: Users, password: str) -> None:
    with pytest.raises(PermanentError, match=f"{len(password)} characters.*12 to 1024"):
        users.add("ann", Role.VIEWER, password)
    assert users.all() == []


@pytest.mark.parametrize("name", ["", " ann", "a\nb", "x" * 65])
def test_a_name_that_will_not_do_is_refused(users: Users, name: str) -> None:
    with pytest.raises(PermanentError, match="printable characters"):
        users.add(name, Role.VIEWER, None)


def test_a_session_ends_after_its_time_and_its_token_is_nowhere(tmp_path: Path) -> None:
    engine, now = open_sqlite(tmp_path / "page.db", METADATA), 1000.0
    sessions = Sessions(engine, 60, clock=lambda: now)
    token = sessions.open("ann")
    found = sessions.find(token)
    assert found is not None
    assert found.name == "ann"
    now = 1061.0
    assert sessions.find(token) is None
    assert sessions.find("") is None
    engine.dispose()
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_the_command_adds_lists_and_removes_people(site: Path) -> None:
    run, config = CliRunner(), ["--config", str(site)]
    added = run.invoke(
        app, ["user", "add", "ann", "--role", "admin", "--password-stdin", *config], PASSWORD + "\n"
    )
    assert added.output == "ann is admin\n"
    run.invoke(app, ["user", "add", "ben", "--no-password", *config])
    listed = run.invoke(app, ["user", "list", "--json", *config]).output
    assert re.findall(r'"(?:name|role|password)": "([^"]+)"', listed) == [
        *("ann", "admin", "yes"),
        *("ben", "viewer", "no: by the proxy"),
    ]
    with opened(load(site)) as users:
        assert users.is_right("ann", PASSWORD)
    assert run.invoke(app, ["user", "remove", "ann", *config]).exit_code == 0
    again = run.invoke(app, ["user", "remove", "ann", *config])
    assert "no user 'ann'" in str(again.exception)


def test_a_password_is_asked_for_twice(site: Path) -> None:
    arguments = ["user", "add", "ann", "--config", str(site)]
    different = CliRunner().invoke(app, arguments, f"{PASSWORD}\n{PASSWORD}x\n")
    assert different.exit_code == 1
    assert CliRunner().invoke(app, arguments, f"{PASSWORD}\n{PASSWORD}\n").exit_code == 0


def test_check_says_which_command_makes_the_first_user(site: Path) -> None:
    (fault,) = [fault for what, fault, _ in page(load(site)) if what == "page users"]
    assert "dicom-node page user add NAME --role admin" in fault
    (site.parent / "data").mkdir()
    with opened(load(site)) as users:
        users.add("ann", Role.ADMIN, None)
    assert ("page users", "", "1") in page(load(site))
    site.write_text("page: null\n")
    [(what, fault, _)] = page(load(site))
    assert (what, fault) == ("page", "")


def test_a_data_folder_that_cannot_be_made_is_said_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("node: {data: ./node.yaml/data}\n")
    words = ["user", "list", "--config", str(tmp_path / "node.yaml")]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, ConfigError)
    assert "cannot be made (Not a directory); make it" in str(found.exception)
