"""``dicom-node page``: who may use the page for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError, PermanentError
from dicom_node.page.people import opened
from dicom_node.page.users import Users
from dicom_node.page_settings import Role

app = typer.Typer(
    help="The page for people.\n\nExample: dicom-node page user list --config node.yaml",
    add_completion=False,
)
user = typer.Typer(
    help="Who may use the page.\n\nExample: dicom-node page user add ann --role admin",
    add_completion=False,
)
app.add_typer(user, name="user")

Name = Annotated[str, typer.Argument(help="With which somebody logs in.")]
AsRole = Annotated[Role, typer.Option("--role", help="What they may do.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password's line from standard input.")
]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="They come in through page.trusted_proxy alone.")
]


@user.command()
def add(
    name: Name,
    role: AsRole = Role.VIEWER,
    config: ConfigFile = DEFAULT_CONFIG,
    password_stdin: FromStdin = False,
    no_password: NoPassword = False,
) -> None:
    """Let somebody in, or change the role and the password of who is there; their sessions end.

    Example: dicom-node page user add ann --role labeller --config node.yaml
    """
    settings = load(config)
    password = None if no_password else _password(from_stdin=password_stdin)
    with _users(settings) as users:
        users.add(name, role, password)
    typer.echo(f"{name} is {role}")


@user.command()
def remove(name: Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let somebody in no more; their sessions end.

    Example: dicom-node page user remove ann --config node.yaml
    """
    with _users(load(config)) as users:
        users.remove(name)
    typer.echo(f"{name} may not come in any more")


@user.command("list")
def show(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List who may use the page.

    Example: dicom-node page user list --config node.yaml
    """
    with _users(load(config)) as users:
        rows = [
            {
                "name": row.name,
                "role": row.role.value,
                "password": "yes" if row.has_password else "no: by the proxy",
                "since": row.added_at.isoformat(timespec="seconds"),
            }
            for row in users.all()
        ]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "role", "password", "since"]
    print_table(
        "Users",
        columns,
        [list(row.values()) for row in rows],
        empty="nobody; 'dicom-node page user add NAME --role admin' adds the first",
    )


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise PermanentError("no password on standard input; pipe one line into the command")
        return line
    found: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return found


@contextmanager
def _users(config: Config) -> Iterator[Users]:
    data = config.node.data
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"node.data: {data} cannot be made ({exc.strerror}); make it, for the user that runs "
            "the node"
        ) from None
    with opened(config) as users:
        yield users
