"""docs/data.md: what lies in the data folder, and what an erasure leaves there."""

import re
from typing import Final

from dicom_node.cli.erase import NOT_ERASED
from tests.support.conformance import REPOSITORY

PAGE: Final = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
#: What is erased, and the key, which is nobody's alone.
_ERASED: Final = frozenset({"harvest.db", "pseudonym.key"})
_NO_IDENTITIES: Final = frozenset({"none", "no"})


def _places_with_identities() -> set[str]:
    table = PAGE.partition("| place |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in table.splitlines()[2:]]
    return {
        name.partition("/")[0]
        for place, _, identities, _ in rows
        if identities not in _NO_IDENTITIES
        for name in re.findall(r"`([^`]+)`", place)
    }


def test_an_erasure_reaches_each_place_with_identities_or_is_said_not_to() -> None:
    paragraph = PAGE.partition("**Not erased**")[2].partition("\n\n")[0]
    said = {name.rstrip("/") for name in re.findall(r"`([^`]+)`", paragraph)}
    places = _places_with_identities()
    assert {"pull.db", "inbox", "harvest.db"} <= places
    assert places - said == _ERASED


def test_the_command_names_the_files_that_nobody_expects() -> None:
    said = " ".join(NOT_ERASED)
    assert all(name in said for name in ("pull.db", "page.db", "notices/", "not-taken.csv"))
