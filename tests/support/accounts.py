"""Programs of an account that owns nothing, as a researcher's who was given a store to read."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NOBODY: Final = 65534
#: Modules come first, while all of them can be read.
_BEGIN: Final = """
import encodings.cp437, os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite
from PIL import Image
from dicom_node.errors import NodeError
from dicom_node.store import Erasure, audit, open_store
from dicom_node.store.label_sets import class_sets, label_sets
class_sets(), label_sets(), Image.init()
{imports}
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
folder = Path(sys.argv[1])
try:
{code}
except NodeError as exc:
    print(type(exc).__name__, exc)
"""


def as_another(code: str, folder: Path, *, imports: str = "", home: Path | None = None) -> str:
    """Run lines of Python on a folder as an account that owns nothing; return what they printed.

    Parameters
    ----------
    code : str
        Knows ``folder``; an error of the node is printed with its kind.
    folder : Path
    imports : str
        What it needs besides the store.
    home : Path, optional
        Whither the account's caches go.
    """
    lines = "\n".join(f"    {line}" for line in code.strip().splitlines())
    program = _BEGIN.format(imports=imports, nobody=_NOBODY, code=lines)
    environment = os.environ | ({} if home is None else {"XDG_CACHE_HOME": str(home)})
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """Yield a copy of a folder that everybody may read and nobody but its owner may write."""
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        copy = Path(shutil.copytree(folder, Path(open_to_all) / folder.name))
        lock(copy)
        try:
            yield copy
        finally:
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755)


def lock(folder: Path) -> None:
    """Let everybody read a folder and nobody but root write it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def given_away(folder: Path) -> None:
    """Give a folder to the account of `as_another`."""
    if os.getuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
