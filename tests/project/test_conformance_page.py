"""docs/conformance.md says what the code does."""

import pytest

from tests.support.conformance import PAGE, TABLES, names, page
from tests.support.contents import TABLES as CONTENTS

TEXT = PAGE.read_text("utf-8")
CURE = "python -m tests.support.conformance writes the tables anew"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_conformance_statement_is_the_one_that_the_node_runs_on(name: str) -> None:
    assert page(TEXT, {name: TABLES[name]}) == TEXT, CURE


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_the_contents_of_an_object_are_those_that_the_node_writes(name: str) -> None:
    assert page(TEXT, {name: CONTENTS[name]}) == TEXT, CURE


def test_every_table_stands_there_once() -> None:
    assert sorted(names(TEXT)) == sorted((*TABLES, *CONTENTS))
