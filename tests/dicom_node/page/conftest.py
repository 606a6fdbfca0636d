import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.config import load
from tests.support.page_site import Site, site_in


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_in(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(made_once: Site, tmp_path: Path) -> Site:
    """Return a copy of a node that ran, for one test alone."""
    shutil.copytree(made_once.config.node.data.parent, tmp_path / "site")
    return replace(made_once, config=load(tmp_path / "site" / "node.yaml"))
