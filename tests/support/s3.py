"""A server that speaks S3 over HTTP, for tests: moto, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import pytest

from dicom_node.demo.ports import free_port

#: What boto3 reads of the environment; the secret is looked for in what is said and written.
SECRET: Final = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"  # noqa: S105 (of nobody)
_NEEDED: Final = ("boto3", "moto", "flask", "flask_cors")
_STARTS_S: Final = 30.0


@dataclass
class Storage:
    """A running server, and what its owner can see of it."""

    process: subprocess.Popen[bytes]
    url: str
    client: Any = field(repr=False)

    def bucket(self, name: str, *, keeps_versions: bool = False) -> str:
        """Make a bucket and return its address."""
        self.client.create_bucket(Bucket=name)
        if keeps_versions:
            self.client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )
        return f"s3://{name}"

    def contents(self, bucket: str) -> dict[tuple[str, str], bytes]:
        """Return every version of every object, by key and version."""
        found = {}
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        for one in (version for page in pages for version in page.get("Versions", [])):
            which = {"Key": one["Key"], "VersionId": one["VersionId"]}
            body = self.client.get_object(Bucket=bucket, **which)["Body"].read()
            found[one["Key"], one["VersionId"]] = body
        return found

    def stop(self) -> None:
        """End the server; nobody answers at its address then."""
        self.process.kill()
        self.process.wait()


def missing() -> list[str]:
    """Return what this installation lacks to run a server."""
    return [name for name in _NEEDED if find_spec(name) is None]


@contextmanager
def storage() -> Iterator[Storage]:
    """Run a server, or skip and say what to install."""
    if lacking := missing():
        pytest.skip(f"{', '.join(lacking)} missing: pip install --group test")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        url = f"http://127.0.0.1:{port}"
        client = import_module("boto3").client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="owner",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        with closing(client):
            yield Storage(process, url, client)
    finally:
        process.kill()
        process.wait()


def environment(url: str) -> dict[str, str]:
    """Return what a training has in its environment to reach a server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIATRAINING",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + _STARTS_S
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"moto did not begin to listen on {port} in {_STARTS_S:g} s")
