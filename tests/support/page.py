"""The page of a node without a server: starlette's client, logged in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from starlette.testclient import TestClient

from dicom_node.config import Config, load
from dicom_node.index import Index
from dicom_node.jobs import Worker, database_url
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox
from dicom_node.page.access import COOKIE
from dicom_node.page.app import make_app
from dicom_node.page.users import Users
from dicom_node.page_settings import Role

PASSWORD: Final = "four words of nonsense"  # noqa: S105 - of tests alone
_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')


def node_in(folder: Path, page: str = "{}", more: str = "") -> Config:
    """Write the configuration of a node that has run, with empty databases."""
    path = folder / "node.yaml"
    path.write_text(f"node: {{data: ./data, min_free_gib: 0}}\npage: {page}\n{more}")
    config = load(path)
    layout = Layout(config.node.data)
    layout.data.mkdir(exist_ok=True)
    layout.results.mkdir(exist_ok=True)
    Index(layout.index).close()
    Outbox(layout.outbox, layout.results).close()
    Worker(database_url(layout.jobs, None), {}, executor_id="node-0").close(timeout_s=1)
    return config


@contextmanager
def browser(config: Config, **settings: Any) -> Iterator[TestClient]:
    """Yield a client that nobody logged in with; it follows no redirection."""
    made: dict[str, Any] = {"follow_redirects": False, "raise_server_exceptions": False}
    with TestClient(make_app(config), **made | settings) as client:
        yield client


def users_of(client: TestClient) -> Users:
    """Return the users of the page that a client talks to."""
    app: Any = client.app
    users: Users = app.state.desk.users
    return users


def log_in(client: TestClient, role: Role, name: str = "") -> None:
    """Add somebody with a role, and begin a session; no password has to be hashed for that."""
    app: Any = client.app
    name = name or f"the {role}"
    users_of(client).add(name, role, None)
    client.cookies.set(COOKIE, app.state.desk.sessions.open(name))


def token_on(client: TestClient, address: str) -> str:
    """Return the CSRF token of the forms on a page."""
    found = _CSRF.findall(client.get(address).text)
    assert found, f"{address} has no form"
    token: str = found[-1]
    return token


def post(client: TestClient, page: str, action: str, **fields: str) -> Any:
    """Send a form that stands on a page."""
    return client.post(action, data={"csrf": token_on(client, page), **fields})
