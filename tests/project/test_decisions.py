"""docs/decisions has one page a decision, each whole, and an index of all."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("0*.md"))
PARTS = ["Context", "Decision", "Reason", "Consequences"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_says_why_and_what_it_costs(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    for part in text.split("\n## ")[1:]:
        assert len(part.split()) > 5, part


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_decision_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (FOLDER / link).exists(), link
    for place in re.findall(r"`((?:dicom_node|tests|training)/[\w./]+)`", text):
        assert (REPOSITORY / place).exists(), place


def test_the_index_has_every_decision_in_order_with_its_title() -> None:
    index = re.findall(r"^\| \[(\d+)\]\(([\w.-]+)\) \| ([^|]+) \|", _index(), re.MULTILINE)
    titles = [page.read_text("utf-8").splitlines()[0].removeprefix("# ") for page in PAGES]
    assert [(name, title.strip()) for _, name, title in index] == [
        (page.name, title) for page, title in zip(PAGES, titles, strict=True)
    ]
    assert [number for number, *_ in index] == [f"{n:04}" for n in range(1, len(PAGES) + 1)]


def _index() -> str:
    return (FOLDER / "README.md").read_text("utf-8")
