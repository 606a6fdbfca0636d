from pathlib import Path

import pytest

from tests.support.torch_tests import torch_module


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return torch_module(module_path, parent)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny networks are faster on one thread, all the more where tests share the cores."""
    pytest.importorskip("torch").set_num_threads(1)
