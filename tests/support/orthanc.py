"""A real Orthanc on loopback, as a hospital's small PACS."""

import base64
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset

from dicom_node.config import Destination
from tests.support.nodes import until

#: where Debian's orthanc-dicomweb puts it
DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc that knows the node as modality ``NODE``."""

    dicom_port: int
    http_port: int
    #: user:password, where it asks for them
    credentials: str = ""

    @property
    def destination(self) -> Destination:
        return Destination(
            name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=self.dicom_port
        )

    def get(self, path: str) -> Any:
        return json.loads(self._call(urllib.request.Request(self._url(path))))

    def post(self, path: str, body: bytes) -> Any:
        return json.loads(self._call(urllib.request.Request(self._url(path), data=body)))

    def put(self, path: str, body: bytes) -> None:
        self._call(urllib.request.Request(self._url(path), data=body, method="PUT"))

    def delete(self, path: str) -> None:
        self._call(urllib.request.Request(self._url(path), method="DELETE"))

    def upload(self, path: Path) -> str:
        """Store a file; return Orthanc's name of the instance."""
        return str(self.post("/instances", path.read_bytes())["ID"])

    def push(self, *instances: str, to: str = "NODE") -> dict[str, Any]:
        """Send instances to a node by C-STORE, as they are."""
        body = {"Resources": instances, "Synchronous": True, "Permissive": True}
        found: dict[str, Any] = self.post(f"/modalities/{to}/store", json.dumps(body).encode())
        return found

    def commit(self, instances: Sequence[Dataset]) -> str:
        """Ask the node for storage commitment; return what its report says."""
        listed = [
            {"SOPClassUID": str(ds.SOPClassUID), "SOPInstanceUID": str(ds.SOPInstanceUID)}
            for ds in instances
        ]
        body = json.dumps({"DicomInstances": listed}).encode()
        asked = self.post("/modalities/NODE/storage-commitment", body)["ID"]

        def answer() -> str:
            status = str(self.get(f"/storage-commitment/{asked}")["Status"])
            return "" if status == "Pending" else status

        return str(until(answer))

    def studies(self) -> list[set[str]]:
        """Return the SOP Instance UIDs of each of Orthanc's studies.

        Orthanc's study is a Study Instance UID of one Patient ID.
        """
        return [
            {
                one["MainDicomTags"]["SOPInstanceUID"]
                for one in self.get(f"/studies/{study}/instances?expand")
            }
            for study in self.get("/studies")
        ]

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def _call(self, request: urllib.request.Request) -> bytes:
        if self.credentials:
            shown = base64.b64encode(self.credentials.encode()).decode()
            request.add_header("Authorization", f"Basic {shown}")
        with urllib.request.urlopen(request, timeout=120) as response:
            return bytes(response.read())


@contextmanager
def orthanc(
    program: str,
    folder: Path,
    free_port: Callable[[], int],
    *,
    node_port: int,
    web_user: str = "",
    plugins: Sequence[Path] = (),
    others: Mapping[str, int] | None = None,
    configured: Mapping[str, Any] | None = None,
) -> Iterator[Orthanc]:
    """Run Orthanc with its data under `folder`.

    With DICOMweb for `web_user` (name:password); `others` are more nodes, by AE title. What
    `configured` says holds where this function has no need of its own.
    """
    running = Orthanc(dicom_port=free_port(), http_port=free_port(), credentials=web_user)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **(configured or {}),
        "Name": "PACS",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC",
        "DicomPort": running.dicom_port,
        "HttpPort": running.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "StorageCompression": False,
        "OverwriteInstances": True,
        "SaveJobs": False,
        "Plugins": [str(plugin) for plugin in plugins],
        "DicomModalities": {
            ae_title: {
                "AET": ae_title,
                "Host": "127.0.0.1",
                "Port": port,
                "AllowTranscoding": False,
            }
            for ae_title, port in {"NODE": node_port, **(others or {})}.items()
        },
    }
    if web_user:
        name, password = web_user.split(":")
        settings |= {
            "Plugins": [DICOMWEB],
            "AuthenticationEnabled": True,
            "RegisteredUsers": {name: password},
        }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    # DCMTK leaves Nagle on: without this each C-STORE waits 44 ms
    environment = {**os.environ, "TCP_NODELAY": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log, env=environment
        )
    try:
        until(lambda: process.poll() is not None or _answers(running))
        assert process.poll() is None, (folder / "log").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(running: Orthanc) -> bool:
    try:
        return bool(running.get("/system"))
    except OSError:
        return False
