"""The frames that a command is to learn from."""

from collections.abc import Callable
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress

from dicom_node import config
from dicom_node.errors import ConfigError
from training import pack, runs
from training.config import Size
from training.engine import comes_first, first_alone
from training.pack import Pack


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

    def where() -> Path:
        return (found or find()).folder.resolve()

    folder = first_alone(fabric, where)
    return found or pack.open(folder)


def open_pack(
    console: Console,
    size: Size,
    *,
    node: Path,
    store: Path | None,
    folder: Path | None,
    run: Path | None = None,
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
    folder : Path, optional
        Folder of a pack.
    run : Path, optional
        Folder of the run. One that is half done goes on with the pack that it began with, whatever
        the store holds by now.

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
        return _opened(folder, size)
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


def _opened(folder: Path, size: Size) -> Pack:
    found = pack.open(folder)
    if found.size != size:
        raise ConfigError(
            f"--pack {folder}: its frames are {found.size}, not {size}; give --height "
            f"{found.size.height} --width {found.size.width}, or build one of the other size"
        )
    return found
