from pathlib import Path

import pytest

from dicom_node.phantom.study import cohort
from tests.support.phantoms import fill_store
from tests.support.torch_tests import torch_module


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return torch_module(module_path, parent)


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store with labelled phantoms of 16 patients; read only."""
    folder = tmp_path_factory.mktemp("phantoms") / "store"
    fill_store(folder, cohort(seed=0, patients=16))
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny networks are faster on one thread, all the more where tests share the cores."""
    pytest.importorskip("torch").set_num_threads(1)
