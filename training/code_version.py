"""Which code runs: the version, and of a checkout its commit too."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from dicom_node import __version__

#: The checkout, where training runs from one.
ROOT: Final = Path(__file__).resolve().parents[1]
_COMMIT_DIGITS: Final = 12
_PATIENCE_S: Final = 10.0


def code_version(root: Path = ROOT) -> str:
    """Return the version of the code, as ``0.1.0+g1f2e3d4c5b6a`` or ``0.1.0+g1f2e3d4c5b6a.dirty``.

    The commit is that of the checkout; dirty is one with a tracked file that was changed since.
    Without a checkout or without git the version stands alone.

    Parameters
    ----------
    root : Path
        The checkout.
    """
    commit = _commit(root)
    return f"{__version__}+g{commit}" if commit else __version__


def _commit(root: Path) -> str:
    git = shutil.which("git")
    # a folder that lies in somebody else's repository is no checkout of this code
    if git is None or not (root / ".git").exists():
        return ""
    # both are named, so that GIT_DIR of a hook that runs this does not count
    where = (f"--git-dir={root / '.git'}", f"--work-tree={root}")
    said = ("describe", "--always", f"--abbrev={_COMMIT_DIGITS}", "--exclude=*", "--dirty=.dirty")
    try:
        found = subprocess.run(
            [git, "--no-optional-locks", *where, *said],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
