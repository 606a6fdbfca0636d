"""The frames that a command is to learn from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress

from dicom_node import config
from dicom_node.errors import ConfigError, TemporaryError
from training import pack, runs
from training.config import Size
from training.engine import comes_first, first_alone
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB, GIB, Cache, default_folder
from training.pack.exported import holds_exports, newest_version, open_export


def launched(fabric: Fabric, find: Callable[[], Pack]) -> Pack:
    """Start the processes of a run; all of them open the pack that the first one finds.

    A node harvests while they start: left to itself, each could find another store. The process
    that starts the others looks before: what is wrong is told once, and nobody waits for a long
    building.

    Parameters
    ----------
    fabric : Fabric
        Not launched yet.
    find : callable
        Opens the pack, or builds it.
    """
    found = find() if comes_first(fabric) else None
    fabric.launch()

    def where() -> tuple[Path, str | None]:
        """Return where it is, and of an export, which another machine has not, its version."""
        first = found or find()
        is_local = isinstance(first.frames, np.ndarray)
        return first.folder.resolve(), None if is_local else first.store_version

    folder, version = first_alone(fabric, where)
    if found or version is None or folder.exists():
        return found or pack.open(folder)
    own = find()
    if own.store_version != version:
        raise TemporaryError(
            f"a newer export ({own.store_version}) than the first machine's ({version}) came while "
            "the processes of the run started; give the same command again"
        )
    return own


def cache_of(folder: Path | None, limit_gib: float = DEFAULT_GIB) -> Cache:
    """Return where shards of a bucket go, as the options say it."""
    folder = default_folder() if folder is None else folder.resolve()
    return Cache(folder=folder, limit_bytes=round(limit_gib * GIB))


def open_pack(  # noqa: PLR0913 (one parameter an option)
    console: Console,
    size: Size,
    *,
    node: Path,
    store: Path | None,
    folder: str | None,
    cache: Cache | None = None,
    run: Path | None = None,
    version: str | None = None,
) -> Pack:
    """Return the pack of a store, built where it is not there yet, or a pack that was copied.

    Parameters
    ----------
    console : Console
        Told how far the building is.
    size : Size
        Of the frames.
    node : Path
        Configuration of the node whose store is meant, without `store` and `folder`.
    store : Path, optional
        Folder of a weak-label store.
    folder : str, optional
        Folder of a pack; or where exports of packs are, a folder or ``s3://BUCKET/PREFIX``.
    cache : Cache, optional
        Takes shards of a bucket; a folder of the user's where None.
    run : Path, optional
        Folder of the run. One that is half done goes on with the pack that it began with, whatever
        the store holds by now.
    version : str, optional
        Of the store, that is wanted of several exports where it is there.

    Raises
    ------
    ConfigError
        When both are given, or the pack is of another size.
    StoreError
        When there is nothing to learn from.
    """
    if store is not None and folder is not None:
        raise ConfigError("--store and --pack: the frames come from one of them; drop one")
    if folder is not None:
        if holds_exports(folder):
            return _export(
                console, folder, size, cache or cache_of(None), _version(run, size) or version
            )
        return _opened(Path(folder), size)
    if store is None:
        store = config.load(node).node.data / config.STORE  # the node keeps its store there
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("read the store", total=None)
        found = pack.ensure(
            store,
            None,
            size,
            version=_version(run, size),
            progress=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    if found.left_out:
        console.print(f"{len(found.left_out)} frames cannot be read and are left out")
    return found


def _version(run: Path | None, size: Size) -> str | None:
    """Return the version of the store that a half-done run began with."""
    begun = None if run is None else runs.unfinished(run)
    # a run of another size is refused later, and no pack of its version is missed before
    if begun is None or getattr(begun.settings, "size", None) != size:
        return None
    return begun.store_version


def _export(console: Console, where: str, size: Size, cache: Cache, version: str | None) -> Pack:
    found = open_export(where, size, cache, version=version)
    if version is not None and found.store_version == version != newest_version(where, size):
        console.print(
            f"{where}: goes on with the frames of version {version} of the store, which it began "
            "with; there is a newer export",
            soft_wrap=True,
        )
    return found


def _opened(folder: Path, size: Size) -> Pack:
    found = pack.open(folder)
    if found.size != size:
        raise ConfigError(
            f"--pack {folder}: its frames are {found.size}, not {size}; give --height "
            f"{found.size.height} --width {found.size.width}, or build one of the other size"
        )
    return found
