"""A page with something for each of its people to do, and those people before it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser

from dicom_node.books.opened import open_books
from dicom_node.config import Config, load
from dicom_node.harvest.desk import open_desk
from dicom_node.page.access import COOKIE
from dicom_node.page.desk import Desk
from dicom_node.page.run import run
from dicom_node.page_settings import Role
from dicom_node.records import Task
from tests.support.bundles import write_bundle
from tests.support.described import describe
from tests.support.engineer import Engineer, engineer
from tests.support.page_site import Site, say_in_shadow, site_in

#: A job that waits for a node that does not run.
JOB: Final = "study:1.2.3:1:1767225600.000000"
UNMAPPED: Final = "SONO NIERE BDS"
_STUDIES: Final = (
    ("1", "US ABDO", 2),
    ("2", "US ABDO", 2),
    ("3", UNMAPPED, 3),
    ("4", "US THYROID BIOPSY", 3),
)
_MODELS: Final = """
bundles: ./bundles
infer:
  shadow: [test-quality@2]
  routes: {test-segmentation: {groups: [liver], frames: {max: 1}}}
"""
PICTURES: Final = Path(__file__).resolve().parents[2] / "build" / "page"


def busy_site_in(folder: Path) -> Site:
    """Let a node have studies, dead letters, a job, models, one in the shadow, and words."""
    site = site_in(folder)
    say_in_shadow(site, site.images[0])
    bundles = folder / "bundles"
    bundles.mkdir()
    for version in ("1", "2"):
        write_bundle(bundles / f"quality-{version}.onnx", Task.QUALITY, version=version)
    write_bundle(bundles / "liver.onnx", Task.SEGMENTATION)
    (bundles / "none.onnx").write_bytes(b"no model")
    settings = folder / "node.yaml"
    settings.write_text(settings.read_text() + _MODELS)
    config = load(settings)
    with closing(open_books(config)) as books:
        books.jobs.enqueue("study", JOB, ["1.2.3", "1"])
    with open_desk(config.harvest, data=config.node.data) as desk:
        describe(desk, _STUDIES, size=(300, 400))
    return replace(site, config=config)


@contextmanager
def served(config: Config) -> Iterator[str]:
    """Serve the page alone; return its address."""
    ready, stop = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page = threading.Thread(target=run, args=(config, ready, stop, listener))
        page.start()
        try:
            assert ready.wait(60)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            page.join()


@contextmanager
def somebody(
    browser: Browser, address: str, config: Config, name: str, role: Role, **context: Any
) -> Iterator[Engineer]:
    """Sit down before a browser in which somebody is logged in; it may complain of nothing."""
    with closing(Desk(config)) as desk:
        desk.users.add(name, role, None)
        token = desk.sessions.open(name)
    with engineer(browser, address, PICTURES, **context) as someone:
        someone.page.context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
        yield someone
        assert someone.complaints == []
