"""What a radiologist does on the label map, in Chromium."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Config
from dicom_node.harvest.desk import DESCRIPTION, LabelDesk, open_desk
from dicom_node.page.desk import Desk
from dicom_node.page.run import run
from dicom_node.page_settings import Role
from tests.support.described import blank_in, describe
from tests.support.page import PASSWORD

playwright = pytest.importorskip("playwright.sync_api", reason="make test installs playwright")

pytestmark = [pytest.mark.viewers, pytest.mark.slow, pytest.mark.timeout(240)]

PICTURES = Path(__file__).resolve().parents[3] / "build" / "page"
STUDIES = (
    *((str(number), "US ABDO", 2) for number in range(1, 6)),
    *((str(number), "SONO NIERE BDS", 3) for number in range(6, 9)),
    ("9", "<b>US</b> HEART", 2),
    ("10", "US WHATEVER", 1),
)
DEADLINE_MS = 60_000
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def site(tmp_path: Path) -> Config:
    config = blank_in(tmp_path)
    with closing(Desk(config)) as desk:
        for name in ("ann", "ben"):
            desk.users.add(name, Role.LABELLER, PASSWORD)
    return config


@pytest.fixture
def desk(site: Config) -> Iterator[LabelDesk]:
    with open_desk(site.harvest, data=site.node.data) as desk:
        describe(desk, STUDIES, size=(300, 400))
        yield desk


@pytest.fixture
def address(site: Config, desk: LabelDesk) -> Iterator[str]:
    ready, stop, listener = (
        threading.Event(),
        threading.Event(),
        socket.create_server(("127.0.0.1", 0)),
    )
    page = threading.Thread(target=run, args=(site, ready, stop, listener))
    page.start()
    assert ready.wait(60)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    page.join()
    listener.close()


@pytest.fixture(scope="module")
def chromium(needs_program: Callable[[str], str]) -> Iterator[Any]:
    program = needs_program("chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@contextmanager
def _logged_in(chromium: Any, address: str, name: str) -> Iterator[Any]:
    """Yield a page of somebody's own browser, which complains about nothing."""
    complaints: list[str] = []
    context = chromium.new_context(viewport={"width": 1200, "height": 860}, base_url=address)
    page = context.new_page()
    page.set_default_timeout(DEADLINE_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if "Content Security" in m.text else 0)
    page.goto("/login?next=/labels")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text-is('Study descriptions')")
    yield page
    context.close()
    assert complaints == []


def _tab_to(page: Any, text: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if text in page.evaluate("document.activeElement.innerText ?? ''"):
            return
    raise AssertionError(f"the tabulator does not lead to {text}")


def _keep(page: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def _press(page: Any, keys: str, until: str) -> None:
    """Press keys, and wait for a page with this heading."""
    for key in keys.split():
        page.keyboard.press(key)
    page.wait_for_selector(f"h1:text-is('{until}')")


def test_a_radiologist_sorts_three_descriptions_by_keyboard_alone_and_undoes_one(
    chromium: Any, address: str, desk: LabelDesk
) -> None:
    with _logged_in(chromium, address, "ann") as page:
        _keep(page, "labels")
        _tab_to(page, "Sort them one by one")
        _press(page, "Enter", "US ABDO")
        _keep(page, "labels-words")
        _press(page, "1 Enter", "SONO NIERE BDS")
        _press(page, "0 4 1 5 5 Enter", "<B>US</B> HEART")
        _press(page, "3 0 Enter", "US WHATEVER")
        assert {words: groups for (_, words), groups in desk.notes.decisions().items()} == {
            "US ABDO": {"abdomen"},
            "SONO NIERE BDS": {"abdomen", "kidney"},
            "<B>US</B> HEART": frozenset(),
        }
        _keep(page, "labels-undo")
        _press(page, "u", "<B>US</B> HEART")
        assert (DESCRIPTION, "<B>US</B> HEART") not in desk.notes.decisions()
        _press(page, "n", "US WHATEVER")
        page.goto("/labels/history")
        _keep(page, "labels-history")
    groups = {frame.groups for frame in desk.store.frames()}
    assert groups == {frozenset(), frozenset({"abdomen"}), frozenset({"abdomen", "kidney"})}


def test_of_two_who_sort_the_same_description_the_second_one_is_told(
    chromium: Any, address: str, desk: LabelDesk
) -> None:
    words = "US WHATEVER"
    at = f"/labels/words/{desk.token(words)}"
    with (
        _logged_in(chromium, address, "ann") as ann,
        _logged_in(chromium, address, "ben") as ben,
    ):
        for page in (ann, ben):
            page.goto(at)
        ann.keyboard.press("8")
        ann.keyboard.press("Enter")
        ann.wait_for_selector("text=Your last decision")
        ben.keyboard.press("6")
        ben.keyboard.press("Enter")
        said = ben.wait_for_selector("[role=alert]").inner_text()
        assert "ann decided first" in said
        assert "ann says thyroid" in said
        _keep(ben, "labels-overtaken")
        assert desk.notes.decisions()[DESCRIPTION, words] == {"thyroid"}
        assert ben.is_checked("input[value=nodule]")
        ben.keyboard.press("Enter")
        ben.wait_for_selector("text=Your last decision")
    assert desk.notes.decisions()[DESCRIPTION, words] == {"nodule"}


def test_nothing_is_wider_than_a_phone(chromium: Any, address: str, desk: LabelDesk) -> None:
    with _logged_in(chromium, address, "ann") as page:
        page.set_viewport_size(PHONE)
        for place in ("/labels", "/labels?mapped=1", "/labels/history"):
            page.goto(place)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], place
        page.goto(f"/labels/words/{desk.token('US ABDO')}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        _keep(page, "labels-phone")
