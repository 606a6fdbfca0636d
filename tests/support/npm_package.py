"""A package of npm's registry, unpacked once into a folder of the checkout's ``build``."""

import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path


def unpack(npm: str, package: str, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Get a package from npm's registry; `folder` is there whole afterwards, or not at all.

    Parameters
    ----------
    npm : str
        The program.
    package : str
        Name and version, as ``axe-core@4.11.0``.
    folder : Path
        Where its files go; must not be there yet.
    wanted : callable
        Whether a file is kept, by its name in the package, which begins with ``package/``.

    Raises
    ------
    CalledProcessError
        When npm cannot have the package.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as passing:
        command = [npm, "pack", "--silent", "--pack-destination", passing, package]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        [packed] = Path(passing).glob("*.tgz")
        with tarfile.open(packed) as archive:
            members = [one for one in archive if wanted(one.name)]
            archive.extractall(passing, members=members, filter="data")
        (Path(passing) / "package").rename(folder)
