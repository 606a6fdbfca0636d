"""A PostgreSQL server on loopback, of the system's package; it keeps nothing."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support.nodes import until


def programs() -> Path:
    """Return the folder of initdb and postgres; skips where it is absent."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is missing: apt-get install postgresql")


@contextmanager
def postgres(port: int, *, is_durable: bool = False) -> Iterator[Callable[[str], str]]:
    """Run a server; yield a function that makes a database of a name and returns its URL.

    Parameters
    ----------
    port : int
    is_durable : bool
        Wait for the disk, as a server of a site does.
    """
    # a superuser may not run it, and the folders of pytest are closed to everyone else
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = _unprivileged()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    options = {"cwd": folder, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **who}
    data = ["-D", str(folder / "data")]
    initialise = [str(programs() / "initdb"), *data, "-A", "trust", "-U", "postgres", "-N"]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    listen = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(  # type: ignore[call-overload]
            [str(programs() / "postgres"), *data, *listen, *["-F"] * (not is_durable)],
            stdout=log,
            **options,
        )
    address = f"postgresql://postgres@127.0.0.1:{port}"
    try:
        until(lambda: server.poll() is not None or _answers(address))
        assert server.poll() is None, (folder / "log").read_text()

        def create(name: str) -> str:
            with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
            return f"{address}/{name}"

        yield create
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:  # a client holds a connection open
            server.kill()
            server.wait()
        shutil.rmtree(folder)


def _unprivileged() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("no user postgres to run the server as: apt-get install postgresql")


def _answers(address: str) -> bool:
    try:
        psycopg.connect(f"{address}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
