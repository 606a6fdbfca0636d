"""Build a pack from the store: decode, resize and write every frame once.

A pack is built under another name and renamed when it is whole and on disk: what was interrupted is
never opened, and the next build removes it. Who builds holds a lock file, which the kernel releases
if he dies; others wait and find the pack.
"""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.pixels.geometry import to_network
from dicom_node.store import Listing, StoredFrame, WeakLabelStore, is_store, open_store
from dicom_node.store.label_sets import DEFAULT_LABEL_SET, label_sets
from dicom_node.store.packs import UNFINISHED, delete_pack
from training.config import Size
from training.pack.cache import default_folder
from training.pack.columns import about, columns
from training.pack.reading import open as open_pack
from training.pack.rows import Pack
from training.pack.writing import ArrayFile, write_json, write_npz

_log = logging.getLogger(__name__)

#: Frames that are decoded before the first of them is written.
CHUNK: Final = 256
#: More threads than this gain nothing over one disk.
MOST_THREADS: Final = 16
#: Beginnings of frame ids that a warning names before it only counts.
SHOWN: Final = 5
ID_DIGITS: Final = 12

Progress = Callable[[int, int], None]
Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]


def _silent(_done: int, _total: int) -> None:
    """Tell nobody."""


def build(store: Path, folder: Path, size: Size, *, progress: Progress = _silent) -> Pack:
    """Build a pack of the whole store; a pack that is there already is replaced.

    Parameters
    ----------
    store : Path
        Folder of the weak-label store.
    folder : Path
        The pack; must not lie inside the store.
    size : Size
        Of all frames; they are resized by the function that serving uses.
    progress : callable
        Told how many frames are done, of how many.

    Raises
    ------
    StoreError
        When there is no store, it is empty, or no frame of it can be read.
    TemporaryError
        When the disk does not take it.
    """
    with open_store(store) as opened, _alone(folder, store):
        return _build(opened, opened.listing(), folder, size, progress)


def ensure(
    store: Path,
    cache_folder: Path | None,
    size: Size,
    *,
    version: str | None = None,
    progress: Progress = _silent,
) -> Pack:
    """Return the pack of what the store holds now; build it where it is not in the cache.

    Parameters
    ----------
    store, size, progress
        As in `build`.
    cache_folder : Path, optional
        Holds one folder a pack; when None ``packs`` beside the store, and where this account may
        not write there, a folder of the user's for what is not found there.
    version : str, optional
        That the store had when a run began which is to go on: not what it holds now.

    Raises
    ------
    StoreError
        As `build`, and when the pack of that version is gone and the store has another by now.
    TemporaryError
        As `build`.
    """
    caches = _caches(store, cache_folder)
    cache = caches[-1]
    with open_store(store) as opened:
        listing = opened.listing()
        if len(caches) > 1:
            # before any pack is given: a half-done run may have begun with who is erased by now
            _forget(cache, listing)
        # the last is asked below, when nobody builds in it
        asked = caches if version else caches[:-1]
        if found := _found(asked, size, version or listing.version):
            return found
        if version not in (None, listing.version):
            raise StoreError(
                f"{cache / f'{version}-{size}'}: the pack that the run began with is gone, and the "
                "store holds something else by now; give --pack with a copy of it, or another --out"
            )
        folder = cache / f"{listing.version}-{size}"
        with _alone(folder, store):
            found = _usable(folder)
            return found or _build(opened, listing, folder, size, progress)


def kept(store: Path, cache_folder: Path | None, size: Size, *, version: str) -> Pack | None:
    """Return the pack of a version of the store, None when it is not in the cache.

    Parameters are those of `ensure`. The store itself is looked at only where packs lie with the
    user, and is there: those with frames that it no longer holds are deleted.
    """
    caches = _caches(store, cache_folder)
    if len(caches) > 1 and is_store(store):
        with open_store(store) as opened:
            _forget(caches[-1], opened.listing())
    return _found(caches, size, version)


def _found(caches: Sequence[Path], size: Size, version: str) -> Pack | None:
    # a folder of this name is whole, whoever builds another one
    folders = (cache / f"{version}-{size}" for cache in caches)
    return next((found for folder in folders if (found := _usable(folder))), None)


def _caches(store: Path, cache_folder: Path | None) -> tuple[Path, ...]:
    """Return where packs of a store are looked for; in the last of them they are built."""
    if cache_folder is not None:
        return (cache_folder,)
    beside = store.resolve().parent / "packs"
    if os.access(beside if beside.is_dir() else beside.parent, os.W_OK | os.X_OK):
        return (beside,)
    # one a store: what has left it is deleted
    name = hashlib.sha256(str(beside).encode()).hexdigest()[:16]
    return beside, default_folder().with_name("packs") / name


def _forget(cache: Path, listing: Listing) -> None:
    """Delete packs of frames that the store no longer holds: they may have been erased."""
    held = {frame.frame_id for frame in listing.frames}
    for folder in [path.parent for path in cache.glob("*/pack.json")]:
        found = None if folder.name.endswith(UNFINISHED) else _usable(folder)
        if found is not None and not held.issuperset(found.rows.frame_id.tolist()):
            delete_pack(folder)


def _usable(folder: Path) -> Pack | None:
    # beside a store of somebody else's it may be closed
    if not os.access(folder, os.R_OK | os.X_OK):
        return None
    try:
        return open_pack(folder)
    except StoreError as exc:
        _log.warning("%s; it is built again", exc)
        return None


@contextmanager
def _alone(folder: Path, store: Path) -> Iterator[None]:
    """Wait until nobody else builds this pack."""
    if folder.resolve().is_relative_to(store.resolve()):
        raise StoreError(f"{folder}: lies inside the store; name a folder beside it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = folder.with_name(f"{folder.name}.lock").open("w")
    except OSError as exc:
        raise _unwritable(folder, exc) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    store: WeakLabelStore, listing: Listing, folder: Path, size: Size, progress: Progress
) -> Pack:
    if not listing.frames:
        raise StoreError("the store holds 0 frames; harvest studies first")
    part, old = (folder.with_name(f"{folder.name}.{end}") for end in ("part", "old"))
    try:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(mode=0o700)
        _write(store, listing, part, size, progress)
        _sync(part)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        _sync(folder.parent)
    except FileNotFoundError:
        raise TemporaryError(
            f"{part}: deleted while it was built, as 'dicom-node store erase' does; start again"
        ) from None
    except OSError as exc:
        raise _unwritable(folder, exc) from None
    finally:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
    return open_pack(folder)


def _write(
    store: WeakLabelStore, listing: Listing, part: Path, size: Size, progress: Progress
) -> None:
    kept: list[StoredFrame] = []
    left_out: list[str] = []
    has_masks = any(frame.has_mask for frame in listing.frames)
    shape = size.height, size.width
    nothing = np.zeros(shape, np.uint8)
    with (
        ArrayFile(part / "frames.npy", shape) as pixels,
        ArrayFile(part / "masks.npy", shape) as masks,
    ):
        for done, (frame, decoded) in enumerate(_decoded(store, listing.frames, size), start=1):
            if decoded is None:
                left_out.append(frame.frame_id[:ID_DIGITS])
            else:
                kept.append(frame)
                pixels.append(decoded[0])
                if has_masks:
                    masks.append(nothing if decoded[1] is None else decoded[1])
            progress(done, len(listing.frames))
    _judge(kept, left_out)
    if not has_masks:
        (part / "masks.npy").unlink()
    rows = columns(kept)
    write_npz(part / "rows.npz", rows)
    write_json(part / "pack.json", about(listing.version, size, kept, left_out))


def _judge(kept: Sequence[StoredFrame], left_out: Sequence[str]) -> None:
    if not left_out:
        return
    shown = ", ".join(left_out[:SHOWN]) + (", ..." if len(left_out) > SHOWN else "")
    said = f"{len(left_out)} of {len(kept) + len(left_out)} frames cannot be read ({shown})"
    if not kept:
        raise StoreError(f"{said}; run 'dicom-node store audit'")
    _log.warning("%s and are left out; run 'dicom-node store audit'", said)


def _decoded(
    store: WeakLabelStore, frames: Sequence[StoredFrame], size: Size
) -> Iterator[tuple[StoredFrame, Decoded | None]]:
    """Yield every frame in order, with its pixels and mask, or None where they cannot be read."""
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(frames), CHUNK):
            chunk = frames[start : start + CHUNK]
            yield from zip(chunk, pool.map(partial(_decode, store, size), chunk), strict=True)


def _decode(store: WeakLabelStore, size: Size, frame: StoredFrame) -> Decoded | None:
    height, width = size.height, size.width
    try:
        pixels = to_network(store.pixels(frame.frame_id), None, height=height, width=width)
        if not frame.has_mask:
            return pixels, None
        mask = store.mask(frame.frame_id)
    except StoreError:
        return None
    mask = to_network(mask, None, height=height, width=width, nearest=True)
    # masks from before values were checked may hold others
    mask[mask > len(label_sets()[frame.label_set or DEFAULT_LABEL_SET].labels)] = 0
    return pixels, mask


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(folder: Path, exc: OSError) -> TemporaryError:
    return TemporaryError(
        f"{folder}: the pack cannot be written ({exc.strerror}); free space or name another folder"
    )
