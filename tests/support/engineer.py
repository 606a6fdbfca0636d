"""The page in headless Chromium, used as the imaging engineer uses it: by keyboard."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

_DEADLINE_MS: Final = 60_000
#: More presses of the tabulator than any page has things to reach.
_MOST_TABS: Final = 120
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 800}
#: What the element with the focus is called, as a screen reader finds it.
_FOCUSED: Final = """
() => {
  const one = document.activeElement;
  const label = one.labels && one.labels[0] ? one.labels[0].textContent : "";
  return (one.getAttribute("aria-label") || label || one.textContent || "").trim();
}
"""
#: Whether anybody sees where the focus is.
_FOCUS_IS_SEEN: Final = """
() => getComputedStyle(document.activeElement).outlineStyle !== "none"
"""
_NAME_HAS_FOCUS: Final = """
() => document.activeElement.id === "name"
"""
#: What WCAG 2.2 asks for and a program can see: names, headings, landmarks, contrast.
_FAULTS: Final = """
() => {
  const faults = [];
  const seen = (one) => one.checkVisibility() && one.getBoundingClientRect().right > 0;
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title) faults.push("no title");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  let before = 0;
  for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
    const level = Number(one.tagName[1]);
    if (level > before + 1) faults.push(`heading skips to ${one.outerHTML}`);
    before = level;
  }
  for (const one of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!one.labels.length && !one.ariaLabel) faults.push(`no label: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("a, button"))
    if (!one.textContent.trim() && !one.ariaLabel) faults.push(`no name: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("img"))
    if (!one.alt) faults.push(`no alternative: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("nav"))
    if (!one.ariaLabel) faults.push("a nav without a name");
  for (const one of document.querySelectorAll("th"))
    if (!one.scope) faults.push(`no scope: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("table"))
    if (!one.caption) faults.push("a table without a caption");
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) faults.push("an id stands twice");
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number).slice(0, 3)
      .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const paper = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  for (const one of document.querySelectorAll("body *")) {
    const words = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!words || !seen(one) || one.tagName === "OPTION") continue;
    const [a, b] = [light(getComputedStyle(one).color), light(paper(one))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(1)}: ${one.outerHTML}`);
  }
  return faults;
}
"""
_OVERFLOW: Final = """
() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)
  - document.documentElement.clientWidth
"""


@dataclass
class Engineer:
    """Someone at the page who touches no mouse."""

    page: Page
    address: str
    pictures: Path
    #: what the browser complained of
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open an address of the page."""
        self.page.goto(f"{self.address}{path}")

    def tab_to(self, name: str) -> None:
        """Press the tabulator until what has this name has the focus."""
        for _ in range(_MOST_TABS):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_FOCUSED).startswith(name):
                assert self.page.evaluate(_FOCUS_IS_SEEN), f"nobody sees the focus on {name}"
                return
        raise AssertionError(f"{name} is out of reach on {self.page.url}")

    def press(self, name: str) -> None:
        """Reach a link or a button, and use it."""
        self.tab_to(name)
        with self.page.expect_navigation(timeout=_DEADLINE_MS):
            self.page.keyboard.press("Enter")

    def log_in(self, name: str, password: str) -> None:
        """Log in where the page asks for it; the name's field has the focus."""
        # Chromium gives it with the first frame that it draws, which is after the load
        self.page.wait_for_function(_NAME_HAS_FOCUS, timeout=_DEADLINE_MS)
        self.page.keyboard.type(name)
        self.tab_to("Password")
        self.page.keyboard.type(password)
        self.press("Log in")

    def words(self) -> str:
        """Return what the page tells, without menu and foot."""
        return self.page.locator("main").inner_text()

    def faults(self) -> list[str]:
        """Return what would be in the way of somebody who sees little or nothing."""
        found: list[str] = self.page.evaluate(_FAULTS)
        return found

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        found: int = self.page.evaluate(_OVERFLOW)
        return found

    def photograph(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """Run Chromium without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def engineer(browser: Browser, address: str, pictures: Path, **context: Any) -> Iterator[Engineer]:
    """Sit down before a browser that knows nobody yet."""
    pictures.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"viewport": DESK, "color_scheme": "light"}
    with browser.new_context(**settings | context) as opened:
        opened.set_default_timeout(_DEADLINE_MS)
        page = opened.new_page()
        someone = Engineer(page=page, address=address, pictures=pictures)
        page.on("pageerror", lambda error: someone.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                someone.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        yield someone
