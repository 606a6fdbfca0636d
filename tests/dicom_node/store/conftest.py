from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.catalogues import begin_on


@pytest.fixture(scope="session")
def catalogue_url(_postgres_server: Callable[[str], str]) -> str:
    """Return the URL of a database in which each store has a schema of its own."""
    return _postgres_server("catalogues")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Run a test on each engine: the store ``tmp_path / "store"`` begins on it."""
    if request.param == "postgresql":
        begin_on(tmp_path / "store", request.getfixturevalue("catalogue_url"))
    return str(request.param)
