"""axe-core, which finds what stands in the way of somebody who sees little or uses no mouse.

A tool of the tests alone (MPL-2.0): fetched from npm's registry, and part of nothing that we ship.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.npm_package import unpack

if TYPE_CHECKING:  # who fetches it needs no browser
    from playwright.sync_api import Page

VERSION: Final = "4.11.0"
CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "axe" / VERSION
SCRIPT: Final = CACHE / "axe.min.js"
_WANTED: Final = ("package/axe.min.js", "package/LICENSE")
#: What nobody may be left alone with; the others are advice.
_GRAVE: Final = ("serious", "critical")
# `preload` would load the style sheets again, which the page's policy forbids to scripts
_RUN: Final = """
() => axe.run({preload: false}).then((found) => found.violations.flatMap((one) =>
  one.nodes.map((node) => [one.impact, `${one.id}: ${node.html.slice(0, 200)}`])))
"""


def fetch(npm: str) -> Path:
    """Get axe-core from npm's registry, unless it is here; return its script.

    Raises
    ------
    CalledProcessError
        When npm cannot have the package.
    """
    if not SCRIPT.is_file():
        unpack(npm, f"axe-core@{VERSION}", CACHE, _WANTED.__contains__)
    return SCRIPT


def violations(page: "Page") -> list[str]:
    """Return what is serious or critical on a page, as rule and element."""
    # evaluated by the browser itself: the page's policy lets no foreign script in
    page.evaluate(SCRIPT.read_text("utf-8"))
    found: list[tuple[str, str]] = page.evaluate(_RUN)
    return [words for impact, words in found if impact in _GRAVE]


if __name__ == "__main__":
    program = shutil.which("npm")
    # tests say of themselves that they are skipped
    print(fetch(program) if program else "no axe-core without npm: apt-get install npm")  # noqa: T201
