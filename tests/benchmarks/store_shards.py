"""Epochs of training's own batches: from a pack, from shards in a folder, and from a bucket."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from dicom_node.store.export_places import Folder, place
from tests.benchmarks.store_reading import BATCH, SIZE, Made
from tests.support.s3 import Storage, environment
from training.batches import Batches
from training.pack import Pack
from training.pack.cache import Cache
from training.pack.exported import open_export
from training.pack.order import WINDOW
from training.pack.sharding import export

PACK = "a pack on the disk"
FOLDER_FIRST = "shards in a folder, first epoch"
FOLDER = "shards in a folder, later epochs"
COLD = "shards by HTTP, cold cache"
WARM = "shards by HTTP, warm cache, first epoch of a run"
LATER = "shards by HTTP, later epochs"
SMALL = "shards by HTTP, a cache of half the export, later epochs"
DOWNLOAD = "the same shards, downloaded and nothing else"
_SHARDS = 32


class _Unchanged(Batches):
    """Training's batches as they are read: what is measured is not the augmentation."""

    def _on_device(self, loaded: dict[str, Tensor], changes: Tensor | None) -> dict[str, Tensor]:
        return super()._on_device(loaded, None)


def rates(made: Made, folder: Path, running: Storage, *, rounds: int) -> dict[str, list[float]]:
    """Return frames/s by way, round by round; the ways take turns."""
    address = running.bucket("bench")
    per_shard = max(1, len(made.packed) // _SHARDS)
    found: dict[str, list[float]] = {}
    with _environment(environment(running.url)):
        for to in (Folder(folder / "exports"), place(address)):
            export(made.packed, to, frames_per_shard=per_shard)
        for turn in range(rounds):
            ways = _ways(made.packed, folder, address)
            for group in list(ways)[:: -1 if turn % 2 else 1]:
                for name, rate in ways[group]():
                    found.setdefault(name, []).append(rate)
    return found


def _ways(
    packed: Pack, folder: Path, address: str
) -> dict[str, Callable[[], Iterator[tuple[str, float]]]]:
    whole = Cache(folder=folder / "cache", limit_bytes=2**40)

    def from_disk() -> Iterator[tuple[str, float]]:
        _epoch(packed, 0)
        yield PACK, _epoch(packed, 1)

    def from_folder() -> Iterator[tuple[str, float]]:
        opened = open_export(str(folder / "exports"), SIZE, whole)
        yield FOLDER_FIRST, _epoch(opened, 0)
        yield FOLDER, _epoch(opened, 1)

    def by_http() -> Iterator[tuple[str, float]]:
        shutil.rmtree(whole.folder, ignore_errors=True)
        yield COLD, _epoch(open_export(address, SIZE, whole), 0)
        opened = open_export(address, SIZE, whole)
        yield WARM, _epoch(opened, 0)
        yield LATER, _epoch(opened, 1)

    def by_http_with_little_room() -> Iterator[tuple[str, float]]:
        shards = list((folder / "exports").rglob("*.tar"))
        sizes = [path.stat().st_size for path in shards]
        room = max(sum(sizes) // 2, (2 * WINDOW + 2) * max(sizes))
        opened = open_export(address, SIZE, Cache(folder=folder / "small", limit_bytes=room))
        _epoch(opened, 0)
        yield SMALL, _epoch(opened, 1)

    def download() -> Iterator[tuple[str, float]]:
        source, target = place(address), folder / "download"
        began = time.perf_counter()
        target.touch()
        for key in filter(_is_shard, source.keys()):
            source.fetch(key, target)
        yield DOWNLOAD, len(packed) / (time.perf_counter() - began)

    return {
        "disk": from_disk,
        "folder": from_folder,
        "http": by_http,
        "small": by_http_with_little_room,
        "download": download,
    }


def _is_shard(key: str) -> bool:
    return key.endswith(".tar")


def _epoch(opened: Pack, number: int) -> float:
    """Return frames/s of an epoch in training's order."""
    batches = _Unchanged(
        opened,
        opened.select(),
        batch_size=min(BATCH, len(opened)),
        training=True,
        device=torch.device("cpu"),
    )
    began = time.perf_counter()
    seen = sum(len(batch["frames"]) for batch in batches.epoch(number))
    return seen / (time.perf_counter() - began)


@contextmanager
def _environment(words: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
