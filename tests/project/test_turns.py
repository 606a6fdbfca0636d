from dataclasses import dataclass, field

import pytest

from tests.support.turns import MARK, mark_beside


@dataclass
class Item:
    """What is asked of a collected test."""

    nodeid: str
    marks: tuple[str, ...] = ()
    fixturenames: tuple[str, ...] = ()
    added: list[str] = field(default_factory=list)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, name: str) -> None:
        self.added.append(name)


@pytest.mark.parametrize(
    ("item", "is_beside"),
    [
        (Item("tests/models/test_unet.py::test_a"), True),
        (Item("tests/models/test_unet.py::test_a", marks=("slow", "torch")), True),
        (Item("tests/dicom_node/test_index.py::test_a[1]"), True),
        (Item("tests/dicom_node/test_index.py::test_a", marks=("alone",)), False),
        (Item("tests/dicom_node/results/test_a.py::test_a", marks=("dimse",)), False),
        (Item("tests/training/test_a.py::test_a", fixturenames=("free_port",)), False),
        # what nobody named
        (Item("tests/dicom_node/receive/test_new.py::test_a"), False),
        (Item("tests/models_of_others/test_new.py::test_a"), False),
    ],
    ids=lambda given: given.nodeid if isinstance(given, Item) else None,
)
def test_only_what_is_named_and_neither_listens_nor_kills_runs_beside_others(
    item: Item, is_beside: bool
) -> None:
    mark_beside([item])  # type: ignore[list-item]
    assert item.added == [MARK] * is_beside
