"""MLServer from its package, in an environment of its own: it wants an older protobuf than ours."""

import subprocess
import venv
from pathlib import Path
from typing import Final

VERSION: Final = "1.7.1"
_PACKAGES: Final = (f"mlserver=={VERSION}", "onnxruntime==1.31.1")
_FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "mlserver" / VERSION
#: there when the environment is whole
_MARK: Final = _FOLDER / "whole"
PROGRAM: Final = _FOLDER / "bin" / "mlserver"


def is_here() -> bool:
    """Whether it was fetched."""
    return _MARK.exists()


def fetch() -> Path:
    """Install it, unless it is here; return its program.

    Raises
    ------
    CalledProcessError
        When pip cannot have the packages.
    """
    if not is_here():
        venv.create(_FOLDER, clear=True, with_pip=True)
        pip = [str(_FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--quiet"]
        subprocess.run([*pip, *_PACKAGES], check=True)
        _MARK.touch()
    return PROGRAM


if __name__ == "__main__":
    # tests say of themselves that they are skipped
    print(fetch())  # noqa: T201
