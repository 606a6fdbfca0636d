from pathlib import Path

import pytest

from training import pack
from training.config import Size
from training.pack import Pack


@pytest.fixture(scope="session")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of labelled phantoms of 16 patients, 64x64."""
    cache = tmp_path_factory.mktemp("packs")
    return pack.ensure(phantom_store, cache, Size(height=64, width=64))
