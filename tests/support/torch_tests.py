"""Tests of a folder that needs torch: marked so, and skipped with a reason where it is missing."""

from importlib.util import find_spec
from pathlib import Path

import pytest


class _NeedsTorch(pytest.Module):
    """A module that is not imported."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("torch is missing: pip install --group train", allow_module_level=True)


def torch_module(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Return the collector of a test module, for the hook ``pytest_pycollect_makemodule``."""
    kind = pytest.Module if find_spec("torch") else _NeedsTorch
    module: pytest.Module = kind.from_parent(parent, path=module_path)
    module.add_marker("torch")
    return module
