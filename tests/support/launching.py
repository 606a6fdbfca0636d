"""Start a module of tests that starts a second process itself."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def launch_module(module: str, *arguments: object) -> None:
    """Run ``python -m module`` to its end, each process with one thread: more would wait."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
