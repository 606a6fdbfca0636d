"""OHIF as a hospital serves it: its built pages, and DICOMweb of an Orthanc under one address."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Final

from tests.support.npm_package import unpack

#: of the npm package @ohif/app, which ships the built pages in ``dist/``
VERSION: Final = "3.13.2"
CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "ohif" / VERSION
#: Most of the package: models and a microscope viewer that no ultrasound needs.
_LEFT_OUT: Final = ("package/dist/ort/", "package/dist/dicom-microscopy-viewer/")
_DICOM_WEB: Final = "/dicom-web"
_HANDED_ON: Final = ("Accept", "Content-Type", "Host")
SETTINGS: Final = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "maxNumberOfWebWorkers": 1,
    "showErrorDetails": "always",
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "orthanc",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "orthanc",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "wadoUriRoot": _DICOM_WEB,
                "qidoRoot": _DICOM_WEB,
                "wadoRoot": _DICOM_WEB,
                "qidoSupportsIncludeField": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


def fetch(npm: str) -> Path:
    """Get OHIF's pages from npm's registry, unless they are here; return their folder.

    Raises
    ------
    CalledProcessError
        When npm cannot have the package.
    """
    pages = CACHE / "dist"
    if not pages.is_dir():
        unpack(npm, f"@ohif/app@{VERSION}", CACHE, lambda name: not name.startswith(_LEFT_OUT))
    return pages


@contextmanager
def ohif(pages: Path, *, orthanc_port: int) -> Iterator[str]:
    """Serve OHIF on loopback in front of an Orthanc; return its address."""
    handler = partial(_Handler, orthanc_port, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, name="ohif")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(SimpleHTTPRequestHandler):
    """Files, the configuration, and everything under ``/dicom-web`` from Orthanc."""

    #: OHIF 3.13.2 asks for the headers of all series at once. Where those of a SEG come before
    #: those of its images, it takes the first image of their series for the one it is of.
    #: In turn that is seldom; see ``_IS_MISTAKEN`` of tests/support/radiologist.py.
    _headers_one_by_one = Lock()
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, orthanc_port: int, *args: object, directory: str) -> None:
        self._orthanc_port = orthanc_port
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"{_DICOM_WEB}/") and path.endswith("/metadata"):
            with self._headers_one_by_one:
                self._hand_on()
        elif path.startswith(f"{_DICOM_WEB}/"):
            self._hand_on()
        elif path == "/app-config.js":
            text = f"window.config = {json.dumps(SETTINGS)};".encode()
            self._answer(200, "application/javascript", text)
        else:
            # what is no file is an address inside the viewer
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def do_POST(self) -> None:
        self._hand_on()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _hand_on(self) -> None:
        headers = {name: self.headers[name] for name in _HANDED_ON if name in self.headers}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        orthanc = HTTPConnection("127.0.0.1", self._orthanc_port, timeout=60)
        try:
            orthanc.request(self.command, self.path, body or None, headers)
            answer = orthanc.getresponse()
            kind = answer.getheader("Content-Type", "application/octet-stream")
            self._answer(answer.status, kind, answer.read())
        finally:
            orthanc.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    program = shutil.which("npm")
    # tests say of themselves that they are skipped
    print(fetch(program) if program else "no OHIF without npm: apt-get install npm")  # noqa: T201
