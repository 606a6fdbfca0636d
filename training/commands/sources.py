"""The frames that a command is to learn from."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dicom_node import config
from dicom_node.errors import ConfigError
from training import pack
from training.config import Size
from training.pack import Pack


def open_pack(
    console: Console, size: Size, *, node: Path, store: Path | None, folder: Path | None
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
        store = config.load(node).node.data / "store"  # the node keeps its store there
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("read the store", total=None)
        found = pack.ensure(
            store,
            None,
            size,
            progress=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    if found.left_out:
        console.print(f"{len(found.left_out)} frames cannot be read and are left out")
    return found


def _opened(folder: Path, size: Size) -> Pack:
    found = pack.open(folder)
    if found.size != size:
        raise ConfigError(
            f"--pack {folder}: its frames are {found.size}, not {size}; give --height "
            f"{found.size.height} --width {found.size.width}, or build one of the other size"
        )
    return found
