import gc
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigError, TemporaryError
from dicom_node.store import exports
from dicom_node.store.export_places import Folder, Place, place
from tests.support.packs import Still, filled, mask, patients
from tests.support.s3 import Storage
from training import pack
from training.config import Size
from training.pack import Pack
from training.pack.sharding import export

SIZE = Size(height=64, width=96)
PATIENTS = patients("train", 4)
FRAMES, PER_SHARD = 10, 4


def stills(count: int = FRAMES) -> list[Still]:
    return [
        Still(
            patient=PATIENTS[n % 4],
            fields={"groups": frozenset({"abdomen"}) if n % 2 else frozenset()},
            label={"mask": mask(n, 2)} if n % 3 == 0 else {},
        )
        for n in range(count)
    ]


@pytest.fixture
def packed(tmp_path: Path) -> Pack:
    return pack.ensure(filled(tmp_path / "store", stills()), tmp_path / "packs", SIZE)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.tar"))


def test_shards_hold_each_frame_once_with_its_mask_and_its_words(
    packed: Pack, tmp_path: Path
) -> None:
    export(packed, Folder(tmp_path / "out"), frames_per_shard=PER_SHARD)
    seen = {}
    for path in shards(tmp_path / "out"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                assert file is not None
                seen[member.name] = file.read()
    assert len(shards(tmp_path / "out")) == 3
    assert packed.masks is not None
    for row, key in enumerate(packed.rows.frame_id.tolist()):
        frame = np.load(io.BytesIO(seen.pop(f"{key}.frame.npy")))
        assert np.array_equal(frame, packed.frames[row])
        if packed.rows.has_mask[row]:
            label = np.load(io.BytesIO(seen.pop(f"{key}.mask.npy")))
            assert np.array_equal(label, packed.masks[row])
        words = json.loads(seen.pop(f"{key}.json"))
        assert words["patient"] == packed.rows.patient[row]
        assert words["groups"] == (["abdomen"] if packed.rows.groups[row] else [])
        assert (words["label_set"] is not None) == packed.rows.has_mask[row]
    assert not seen


def test_the_order_is_shuffled_and_follows_from_the_version_alone(
    packed: Pack, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        export(packed, Folder(tmp_path / name), frames_per_shard=PER_SHARD)
    digests = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards(tmp_path / name)]
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]
    with tarfile.open(shards(tmp_path / "one")[0]) as tar:
        order = [name.split(".")[0] for name in tar.getnames() if name.endswith(".json")]
    assert order != packed.rows.frame_id.tolist()[:PER_SHARD]


# webdataset leaves its files to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards_as_they_are(packed: Pack, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="pip install webdataset")
    export(packed, Folder(tmp_path / "out"), frames_per_shard=PER_SHARD)
    urls = [str(path) for path in shards(tmp_path / "out")]
    rows = {key: row for row, key in enumerate(packed.rows.frame_id.tolist())}
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert {one["__key__"] for one in found} == set(rows)
    for one in found:
        assert np.array_equal(one["frame.npy"], packed.frames[rows[one["__key__"]]])
        assert one["json"]["split"] == "train"
    gc.collect()


def test_an_export_that_is_there_is_left_as_it_is(packed: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = export(packed, Folder(out), frames_per_shard=PER_SHARD)
    before = {path: path.stat().st_mtime_ns for path in shards(out)}
    again = export(packed, Folder(out), frames_per_shard=PER_SHARD)
    assert (first.was_there, first.shards) == (False, 3)
    assert again.was_there
    assert {path: path.stat().st_mtime_ns for path in shards(out)} == before


@pytest.mark.parametrize("keep_old", [False, True])
def test_a_newer_version_moves_the_pointer_and_takes_the_place_of_the_old(
    packed: Pack, tmp_path: Path, keep_old: bool
) -> None:
    out = tmp_path / "out"
    old = export(packed, Folder(out))
    newer = pack.ensure(filled(tmp_path / "more", stills(12)), tmp_path / "packs", SIZE)
    new = export(newer, Folder(out), keep_old=keep_old)
    pointer = json.loads((out / exports.NEWEST.format(SIZE)).read_text())
    assert pointer["export"] == new.name != old.name
    assert new.replaced == (() if keep_old else (old.name,))
    assert (out / old.name).exists() == keep_old


class KilledError(Exception):
    """Of a test."""


class Stopping(Folder):
    """A folder where something happens before an object of a name is written."""

    def __init__(self, path: Path, name: str, event: Callable[[], None]) -> None:
        super().__init__(path)
        self._name, self._event = name, event

    def put(self, key: str, content: bytes | Path) -> None:
        if key.endswith(self._name):
            self._event()
        super().put(key, content)


@pytest.mark.parametrize("name", ["rows.npz", "shard-000001.tar", "index.npz", "export.json"])
def test_an_interrupted_export_is_no_export_and_the_next_one_replaces_it(
    packed: Pack, tmp_path: Path, name: str
) -> None:
    def interrupt() -> None:
        raise KilledError

    out = tmp_path / "out"
    with pytest.raises(KilledError):
        export(packed, Stopping(out, name, interrupt), frames_per_shard=3)
    assert not list(out.glob("*/export.json"))
    assert not (out / exports.NEWEST.format(SIZE)).exists()
    done = export(packed, Folder(out), frames_per_shard=5)
    assert not done.was_there
    assert [path.name for path in shards(out)] == ["shard-000000.tar", "shard-000001.tar"]


@pytest.mark.parametrize("name", ["shard-000001.tar", "index.npz", "export.json"])
def test_an_erasure_while_an_export_is_written_leaves_nothing_of_it(
    packed: Pack, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    ids = frozenset(packed.rows.frame_id.tolist()[:1])

    def erase() -> None:
        assert not exports.delete_exports([str(out)], ids).faults

    with pytest.raises(TemporaryError, match="start again"):
        export(packed, Stopping(out, name, erase), frames_per_shard=PER_SHARD)
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_pack_that_an_erasure_took_is_not_exported(packed: Pack, tmp_path: Path) -> None:
    (packed.folder / "pack.json").unlink()
    with pytest.raises(TemporaryError, match="start again"):
        export(packed, Folder(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("shard-*"))


def test_a_shard_that_is_too_large_for_one_request_is_refused(packed: Pack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--frames-per-shard 1000000: .* take fewer"):
        export(packed, Folder(tmp_path / "out"), frames_per_shard=1_000_000)


def test_a_bucket_holds_what_a_folder_holds(packed: Pack, tmp_path: Path, s3: Storage) -> None:
    address = s3.bucket("same") + "/deep/prefix"
    to: Place = place(address)
    export(packed, to, frames_per_shard=PER_SHARD)
    export(packed, Folder(tmp_path / "out"), frames_per_shard=PER_SHARD)
    stored = {
        key.removeprefix("deep/prefix/"): body for (key, _), body in s3.contents("same").items()
    }
    keys = Folder(tmp_path / "out").keys()
    local = {key: (tmp_path / "out" / key).read_bytes() for key in keys}
    mark = next(key for key in local if key.endswith(exports.BEGUN))
    assert stored.keys() == local.keys()
    assert {k: v for k, v in stored.items() if k != mark} == {
        k: v for k, v in local.items() if k != mark
    }
