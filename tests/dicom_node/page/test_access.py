"""Who may come in, as what, and what keeps others out."""

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dicom_node.config import Config
from dicom_node.page.app import make_app
from dicom_node.page.headers import POLICY
from dicom_node.page.limits import Allowance
from dicom_node.page_settings import Role
from tests.support.page import PASSWORD, browser, log_in, node_in, post, token_on, users_of


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return node_in(tmp_path_factory.mktemp("node"))


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    with browser(config) as client:
        yield client


def audited(client: TestClient) -> list[tuple[str, str, str, str]]:
    journal = client.app.state.desk.journal  # type: ignore[attr-defined]
    return [(row.name, row.action, row.object, row.host) for row in journal.latest(100)]


def test_nothing_is_open_without_a_log_in(client: TestClient) -> None:
    addresses = [
        route.path
        for route in client.app.routes  # type: ignore[attr-defined]
        if "GET" in (getattr(route, "methods", None) or ()) and route.path != "/login"
    ]
    assert {"/", "/studies", "/queue", "/health", "/audit"} <= {*addresses}
    for address in addresses:
        asked = address.replace(":int", "").replace("{frame}", "1")
        answer = client.get(asked)
        assert answer.status_code == 303, asked
        assert answer.headers["location"].startswith("/login?next=/"), asked


def test_without_users_the_page_says_which_command_makes_the_first(tmp_path: Path) -> None:
    with browser(node_in(tmp_path)) as client:
        assert "dicom-node page user add NAME --role admin" in client.get("/login").text
        users_of(client).add("ann", Role.ADMIN, PASSWORD)
        assert "page user add" not in client.get("/login").text


def test_a_right_password_leads_to_where_somebody_wanted_to_go(client: TestClient) -> None:
    users_of(client).add("ann", Role.VIEWER, PASSWORD)
    page = "/login?next=/queue"
    answer = post(client, page, "/login", name="ann", password=PASSWORD, next="/queue")
    assert answer.headers["location"] == "/queue"
    assert client.get("/queue").status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_a_log_in_leads_to_no_other_site(client: TestClient, target: str) -> None:
    log_in(client, Role.VIEWER)
    answer = client.get("/login", params={"next": target})
    assert answer.headers["location"] == "/studies"


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nobody(
    client: TestClient, name: str, password: str
) -> None:
    users_of(client).add("ann", Role.VIEWER, PASSWORD)
    answer = post(client, "/login", "/login", name=name, password=password)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "dicom_node_session" not in client.cookies


def test_what_was_typed_in_the_place_of_a_name_is_not_written_down(client: TestClient) -> None:
    post(client, "/login", "/login", name="my secret password", password="")
    [refused, *_] = audited(client)
    assert refused[:2] == ("(unknown name)", "log-in refused")


def test_cookies_are_kept_from_scripts_and_other_sites(client: TestClient) -> None:
    users_of(client).add("ann", Role.VIEWER, PASSWORD)
    before = SimpleCookie(client.get("/login").headers["set-cookie"])["dicom_node_before"]
    answer = post(client, "/login", "/login", name="ann", password=PASSWORD)
    [session, _] = answer.headers.get_list("set-cookie")
    session = SimpleCookie(session)["dicom_node_session"]
    for cookie in (before, session):
        assert cookie["httponly"]
        assert cookie["samesite"].lower() == "strict"
        assert not cookie["secure"], "this page speaks no TLS"


def test_over_tls_cookies_are_secure(config: Config) -> None:
    with browser(config, base_url="https://testserver") as client:
        cookie = SimpleCookie(client.get("/login").headers["set-cookie"])["dicom_node_before"]
        assert cookie["secure"]


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(Role.VIEWER, False), (Role.LABELLER, False), (Role.ADMIN, True)],
)
def test_what_changes_something_is_for_administrators(
    client: TestClient, role: Role, allowed: bool
) -> None:
    log_in(client, role)
    answer = post(client, "/queue", "/queue/retry")
    assert answer.status_code == (303 if allowed else 403)
    assert client.get("/audit").status_code == (200 if allowed else 403)
    assert ("/audit" in client.get("/queue").text) is allowed, "the menu says so"


def test_a_form_without_the_token_of_this_session_does_nothing(client: TestClient) -> None:
    log_in(client, Role.ADMIN)
    before = audited(client)
    forms = [
        f"{method.path}"
        for method in client.app.routes  # type: ignore[attr-defined]
        if "POST" in (getattr(method, "methods", None) or ()) and method.path != "/login"
    ]
    assert {"/logout", "/queue/retry", "/queue/drop"} <= {*forms}
    for action in forms:
        for fields in ({}, {"csrf": ""}, {"csrf": "of another page"}):
            data = {**fields, "destination": "pacs", "job": "study:1"}
            assert client.post(action, data=data).status_code == 403, action
    assert audited(client) == before
    assert client.get("/queue").status_code == 200, "still logged in"


def test_the_token_of_another_session_will_not_do(config: Config, client: TestClient) -> None:
    log_in(client, Role.ADMIN, "ann")
    with browser(config) as other:
        log_in(other, Role.ADMIN, "ben")
        theirs = token_on(other, "/queue")
    assert client.post("/queue/retry", data={"csrf": theirs}).status_code == 403


def test_a_log_in_form_of_another_browser_will_not_do(config: Config, client: TestClient) -> None:
    users_of(client).add("ann", Role.VIEWER, PASSWORD)
    with browser(config) as other:
        theirs = token_on(other, "/login")
    client.get("/login")
    fields = {"csrf": theirs, "name": "ann", "password": PASSWORD}
    assert client.post("/login", data=fields).status_code == 403


def test_who_logged_out_is_out_whatever_cookie_comes_back(client: TestClient) -> None:
    log_in(client, Role.VIEWER)
    cookie = client.cookies["dicom_node_session"]
    assert post(client, "/queue", "/logout").status_code == 303
    client.cookies.set("dicom_node_session", cookie)
    assert client.get("/queue").status_code == 303


def test_who_was_removed_or_changed_has_to_log_in_again(client: TestClient) -> None:
    log_in(client, Role.VIEWER, "ann")
    users_of(client).add("ann", Role.ADMIN, None)
    assert client.get("/queue").status_code == 303
    log_in(client, Role.VIEWER, "ann")
    users_of(client).remove("ann")
    assert client.get("/queue").status_code == 303


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    log_in(client, Role.ADMIN)
    for address in ("/login", "/queue", "/nothing", "/static/page.css", "/queue/drop"):
        headers = client.get(address).headers
        assert headers["content-security-policy"] == POLICY, address
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert client.get("/queue").headers["cache-control"] == "no-store"
    assert client.get("/static/page.css").headers["cache-control"] == "max-age=3600"


def test_no_page_has_script_or_style_in_it(client: TestClient) -> None:
    texts = [client.get("/login").text]
    log_in(client, Role.ADMIN)
    texts += [client.get(one).text for one in ("/studies", "/queue", "/health", "/audit")]
    for text in texts:
        assert "<main" in text
        assert not re.findall(r"<style|<script(?![^>]*src=\"/static/)|\son[a-z]+=|\sstyle=", text)
        assert not re.findall(r"(?:src|href|action)=\"(?!/|#)", text), "everything comes from here"


def test_a_guesser_is_slowed_down_by_address_and_by_name(client: TestClient) -> None:
    users_of(client).add("ann", Role.VIEWER, PASSWORD)
    client.app.state.desk.attempts = Allowance(at_once=2, a_second=1 / 30)  # type: ignore[attr-defined]
    wrong = PASSWORD[1:]
    codes = [
        post(client, "/login", "/login", name="ann", password=wrong).status_code for _ in range(3)
    ]
    assert codes == [401, 401, 429]
    answer = post(client, "/login", "/login", name="ann", password=PASSWORD)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 31
    assert "too many attempts" in answer.text


def test_who_asks_without_end_is_turned_away(client: TestClient) -> None:
    client.app.state.desk.requests = Allowance(at_once=3, a_second=0.01)  # type: ignore[attr-defined]
    answers = [client.get("/login") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 101
    assert answers[-1].headers["content-security-policy"] == POLICY
    assert client.get("/static/page.css").status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * 300_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"csrf=%FF", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=b"] * 6000), "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_form_that_is_none_is_refused(
    client: TestClient, body: bytes, kind: str, status: int
) -> None:
    log_in(client, Role.ADMIN)
    answer = client.post("/queue/retry", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status


def test_a_fault_of_the_program_tells_nothing_of_itself(config: Config) -> None:
    with browser(config) as client:
        log_in(client, Role.VIEWER)
        client.app.state.desk.books.index.paging = None  # type: ignore[attr-defined]
        answer = client.get("/studies")
    assert answer.status_code == 500
    assert "Something broke" in answer.text
    assert "paging" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


def test_a_name_from_a_trusted_proxy_is_a_log_in(tmp_path: Path) -> None:
    config = node_in(tmp_path, "{trusted_proxy: {addresses: [10.0.0.9]}}")
    with browser(config, client=("10.0.0.9", 1)) as client:
        users_of(client).add("ann", Role.ADMIN, None)
        header = {"X-Remote-User": "ann", "X-Forwarded-For": "203.0.113.1, 192.0.2.7"}
        # no redirection: after a link of another site it would go on for ever
        welcome = client.get("/login?next=/queue", headers=header)
        assert welcome.status_code == 200
        assert 'http-equiv="refresh" content="0; url=/queue"' in welcome.text
        assert "ann <small>(admin)" in client.get("/queue", headers=header).text
        assert audited(client)[0] == ("ann", "logged in", "", "192.0.2.7")
        assert client.get("/queue").status_code == 303, "the proxy names nobody any more"
        assert client.get("/queue", headers={"X-Remote-User": "ben"}).status_code == 303
        answer = client.get("/login", headers={"X-Remote-User": "ben"})
        assert answer.status_code == 403
        assert "ben may not come in" in answer.text


def test_the_header_of_anybody_else_is_not_looked_at(tmp_path: Path) -> None:
    config = node_in(tmp_path, "{trusted_proxy: {addresses: [10.0.0.9], role: admin}}")
    header = {"X-Remote-User": "ann", "X-Forwarded-For": "192.0.2.7"}
    with browser(config, client=("10.0.0.8", 1)) as client:
        answer = client.get("/login", headers=header)
        assert answer.status_code == 200
        assert "dicom_node_session" not in client.cookies
    with browser(config, client=("10.0.0.9", 1)) as client:
        client.get("/login", headers=header)
        assert "ann <small>(admin)" in client.get("/queue", headers=header).text


def test_the_page_says_so_while_the_node_never_ran(tmp_path: Path) -> None:
    config = node_in(tmp_path)
    (tmp_path / "data" / "outbox.db").unlink()
    with TestClient(make_app(config), follow_redirects=False) as client:
        log_in(client, Role.VIEWER)
        answer = client.get("/studies")
    assert answer.status_code == 503
    assert "start it with &#39;dicom-node serve&#39;" in answer.text
