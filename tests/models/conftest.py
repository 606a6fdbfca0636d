from pathlib import Path

import pytest

from tests.support.torch_tests import torch_module


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return torch_module(module_path, parent)
