"""The page of a running node in headless Chromium: the tasks of the imaging engineer."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dicom_node.demo.ports import free_port
from dicom_node.page.people import opened
from dicom_node.page_settings import Role
from tests.support.nodes import Node, until
from tests.support.pacs import Pacs, pacs
from tests.support.page import PASSWORD
from tests.support.page_site import REFUSED, Site, dead, site_in

pytest.importorskip("playwright", reason="needs the test group: make test installs it")
from playwright.sync_api import Browser

from tests.support.engineer import PHONE, Engineer, chromium, engineer

pytestmark = [
    pytest.mark.viewers,
    pytest.mark.dimse,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

PICTURES = Path(__file__).resolve().parents[2] / "build" / "page"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture(scope="module")
def browser(needs_program: Callable[[str], str]) -> Iterator[Browser]:
    with chromium(needs_program("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def archive() -> Iterator[Pacs]:
    """Return a PACS that takes what the node sends."""
    with pacs(free_port(), SEG, COMPREHENSIVE_3D_SR) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_in(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def address(site: Site, archive: Pacs) -> Iterator[str]:
    """Return where the page of a running node is; the PACS was mended meanwhile."""
    folder, port = site.config.node.data.parent, free_port()
    tree = {
        "node": {"data": "./data", "port": free_port(), "processes": 1, "min_free_gib": 0},
        "destinations": [archive.destination.model_dump(mode="json")],
        "web": {"port": free_port()},
        "page": {"port": port},
    }
    (folder / "node.yaml").write_text(yaml.safe_dump(tree))
    with opened(site.config) as users:
        users.add("ann", Role.ADMIN, PASSWORD)
    node = Node(folder=folder, port=tree["node"]["port"])
    try:
        node.start()
        until(lambda: '"page ready"' in node.log, why=node.log)
        yield f"http://127.0.0.1:{port}"
        assert node.stop() == 0
        assert "page failed" not in node.log
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()


@pytest.fixture
def ann(browser: Browser, address: str) -> Iterator[Engineer]:
    with engineer(browser, address, PICTURES) as someone:
        yield someone
        assert someone.complaints == []


def addresses(site: Site) -> dict[str, str]:
    study = f"/studies/{site.delivered}"
    return {
        "studies": "/studies",
        "study": study,
        "image": f"{study}/images/{site.images[0].sop_instance_uid}",
        "cine": f"{study}/images/{site.images[1].sop_instance_uid}",
        "queue": "/queue",
        "health": "/health",
        "audit": "/audit",
        "nothing": "/nothing",
    }


def test_every_page_fits_a_phone_and_can_be_read_by_a_screen_reader(
    browser: Browser, address: str, site: Site
) -> None:
    with engineer(browser, address, PICTURES) as someone:
        someone.go("/studies")
        assert someone.faults() == []
        someone.photograph("login")
        someone.log_in("ann", PASSWORD)
        state = someone.page.context.storage_state()
        for name, path in addresses(site).items():
            someone.go(path)
            someone.page.wait_for_load_state("networkidle")
            assert someone.faults() == [], name
            someone.photograph(name)
    looks = {"phone": {"viewport": PHONE}, "dark": {"color_scheme": "dark"}}
    for look, settings in looks.items():
        with engineer(browser, address, PICTURES, storage_state=state, **settings) as someone:
            for name, path in addresses(site).items():
                someone.go(path)
                someone.page.wait_for_load_state("networkidle")
                assert someone.faults() == [], f"{name} {look}"
                assert someone.overflow() <= 0, f"{name} {look} scrolls sideways"
                someone.photograph(f"{name}-{look}")


def test_the_engineer_finds_a_failed_delivery_and_retries_it_by_keyboard(
    ann: Engineer, site: Site, archive: Pacs
) -> None:
    ann.go("/")
    ann.log_in("ann", PASSWORD)
    ann.page.keyboard.press("/")
    ann.page.keyboard.type(site.refused[-14:])
    with ann.page.expect_navigation():
        ann.page.keyboard.press("Enter")
    ann.press(site.refused)
    assert f"will not reach pacs: {REFUSED}" in ann.words()
    ann.press("Queue")
    assert "2 given up" in ann.words()
    ann.press("Retry pacs now")
    assert "2 deliveries are tried now." in ann.words()
    until(lambda: len(archive.received) == 2)
    until(lambda: dead(site.config) == 0)

    def is_settled() -> bool:
        ann.go("/queue")
        return "nothing is owed" in ann.words()

    until(is_settled)
    ann.go(f"/studies/{site.refused}")
    assert "delivered to pacs" in ann.words()
    ann.press("Audit")
    assert "retried deliveries" in ann.words()
    ann.press("Log out")
    ann.go("/queue")
    assert "Log in" in ann.words()


def test_outlines_are_looked_at_without_a_mouse(ann: Engineer, site: Site) -> None:
    ann.go("/studies")
    ann.log_in("ann", PASSWORD)
    ann.press(site.delivered)
    ann.press("Image 2")
    assert "Image 2 of 2" in ann.words()
    frame = "document.querySelector('.picture img')"
    shown = set()
    for _ in range(2):
        assert ann.page.evaluate(f"{frame}.complete && {frame}.naturalWidth") == 960
        shown.add(ann.page.evaluate(f"{frame}.src"))
        ann.press("Previous frame")
    assert len(shown) == 2
    ann.page.keyboard.press("Tab")
    assert ann.page.evaluate("document.activeElement.textContent") == "Skip to the content"
