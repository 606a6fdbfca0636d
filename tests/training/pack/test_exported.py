import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dicom_node.errors import ConfigError, StoreError, TemporaryError
from dicom_node.store import exports
from dicom_node.store.export_places import Folder, place
from tests.support.packs import Still, filled, mask, patients
from tests.support.s3 import SECRET, Storage
from training import pack
from training.batches import Batches
from training.config import Size
from training.pack import Pack
from training.pack.cache import Cache
from training.pack.exported import open_export
from training.pack.order import WINDOW, windows
from training.pack.sharding import export

SIZE = Size(height=64, width=96)
PATIENTS = patients("train", 6)
FRAMES, PER_SHARD = 66, 4
ROOM = 2**30


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("packed")
    stills = [
        Still(patient=PATIENTS[n % 6], label={"mask": mask(n, 2)} if n % 2 else {})
        for n in range(FRAMES)
    ]
    return pack.ensure(filled(folder / "store", stills), folder / "packs", SIZE)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(folder=tmp_path / "cache", limit_bytes=ROOM)


@pytest.fixture
def folder(packed: Pack, tmp_path: Path) -> Path:
    export(packed, Folder(tmp_path / "out"), frames_per_shard=PER_SHARD)
    return tmp_path / "out"


@pytest.fixture
def bucket(packed: Pack, s3: Storage, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name))}"
    address = s3.bucket(name) + "/exports"
    export(packed, place(address), frames_per_shard=PER_SHARD)
    return address


def shard_bytes(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.rglob("shard-*.tar"))


def small(cache: Cache, packed: Pack) -> Cache:
    """Return a cache with room for two windows and two shards, of seventeen."""
    row = packed.size.height * packed.size.width * 2 + 4096
    return Cache(folder=cache.folder, limit_bytes=(2 * WINDOW + 2) * PER_SHARD * row)


def epoch(opened: Pack, number: int = 1, **how: object) -> list[dict[str, torch.Tensor]]:
    batches = Batches(
        opened,
        opened.select(),
        **{"batch_size": 6, "training": True, "device": torch.device("cpu"), **how},  # type: ignore[arg-type]
    )
    return list(batches.epoch(number))


def assert_same_frames(found: Pack, packed: Pack) -> None:
    rows = np.random.default_rng(0).permutation(FRAMES)
    assert np.array_equal(found.frames[rows], packed.frames[rows])
    assert packed.masks is not None
    assert found.masks is not None
    assert np.array_equal(found.masks[rows], packed.masks[rows])
    assert np.array_equal(found.frames[3], packed.frames[3])
    assert np.array_equal(found.frames[2:5], packed.frames[2:5])
    assert found.frames[rows.reshape(2, -1)].shape == (2, FRAMES // 2, 64, 96)
    assert found.frames[rows[:0]].shape == (0, 64, 96)


def test_a_folder_of_shards_is_the_pack_that_it_was_made_of(
    packed: Pack, folder: Path, cache: Cache
) -> None:
    found = open_export(str(folder), SIZE, cache)
    assert_same_frames(found, packed)
    assert found.store_version == packed.store_version
    assert found.label_sets == packed.label_sets
    assert np.array_equal(found.tags(), packed.tags())
    assert not cache.folder.exists()


def test_a_bucket_of_shards_is_the_pack_that_it_was_made_of(
    packed: Pack, bucket: str, cache: Cache
) -> None:
    assert_same_frames(open_export(bucket, SIZE, cache), packed)


def test_a_cache_smaller_than_the_export_stays_below_its_limit(
    packed: Pack, bucket: str, cache: Cache
) -> None:
    tight = small(cache, packed)
    found = open_export(bucket, SIZE, tight)
    assert_same_frames(found, packed)  # in any order: frame by frame
    assert not list(tight.folder.rglob("*.tar"))
    for number in (1, 2):
        epoch(found, number)
    kept = list(tight.folder.rglob("*.tar"))
    assert 2 * WINDOW <= len(kept) < FRAMES // PER_SHARD
    assert sum(path.stat().st_size for path in kept) <= tight.limit_bytes


def test_an_epoch_reads_each_frame_once_shard_by_shard(
    packed: Pack, bucket: str, cache: Cache
) -> None:
    found = open_export(bucket, SIZE, small(cache, packed))
    order = windows(found.frames.shard, np.random.default_rng(0))  # type: ignore[union-attr]
    assert sorted(order.tolist()) == list(range(FRAMES))
    shards = found.frames.shard[order]  # type: ignore[union-attr]
    for start in range(0, 64, WINDOW * PER_SHARD):  # the short last shard may stand in the first
        assert len(set(shards[start : start + WINDOW * PER_SHARD].tolist())) <= 2 * WINDOW
    assert (np.diff(shards) != 0).mean() > 0.5  # shuffled within
    first = windows(found.frames.shard, np.random.default_rng(1))  # type: ignore[union-attr]
    assert not np.array_equal(order, first)


def test_two_processes_get_the_batches_that_one_gets_wherever_the_shards_lie(
    packed: Pack, bucket: str, folder: Path, cache: Cache
) -> None:
    from_folder = epoch(open_export(str(folder), SIZE, cache), world=1)
    tight = open_export(bucket, SIZE, small(cache, packed))
    halves = [epoch(tight, rank=rank, world=2) for rank in range(2)]
    assert len(from_folder) == FRAMES // 6
    for whole, one, two in zip(from_folder, *halves, strict=True):
        assert torch.equal(whole["frames"], torch.cat((one["frames"], two["frames"])))


def test_frames_held_on_the_device_come_in_the_same_order(folder: Path, cache: Cache) -> None:
    found = open_export(str(folder), SIZE, cache)
    for read, held in zip(epoch(found), epoch(found, held_bytes=2**30), strict=True):
        assert torch.equal(read["frames"], held["frames"])


def test_an_evaluation_keeps_the_order_of_the_rows(packed: Pack, bucket: str, cache: Cache) -> None:
    found = epoch(open_export(bucket, SIZE, small(cache, packed)), 0, training=False)
    frames = torch.cat([batch["frames"] for batch in found])[:, 0]
    assert np.array_equal(frames.numpy(), packed.frames)


def test_workers_of_a_data_loader_read_a_bucket(packed: Pack, bucket: str, cache: Cache) -> None:
    found = open_export(bucket, SIZE, cache)
    epoch(found)  # threads and connections are there when the workers fork
    loader = DataLoader(found, batch_size=8, num_workers=2)  # type: ignore[arg-type]
    frames = torch.cat([batch["frames"] for batch in loader])
    assert np.array_equal(frames.numpy(), packed.frames)


def test_another_process_opens_it_by_its_folder(packed: Pack, bucket: str, cache: Cache) -> None:
    found = open_export(bucket, SIZE, cache)
    assert_same_frames(pack.open(found.folder), packed)
    assert_same_frames(pickle.loads(pickle.dumps(found)), packed)  # noqa: S301
    script = (
        "import sys, pathlib; from training import pack;"
        "print(int(pack.open(pathlib.Path(sys.argv[1])).frames[:].astype('int64').sum()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, found.folder], capture_output=True, check=True
    )
    assert int(said.stdout) == int(packed.frames[:].astype(np.int64).sum())


def test_a_warm_cache_needs_no_shard_from_the_bucket(
    packed: Pack, bucket: str, s3: Storage, cache: Cache
) -> None:
    open_export(bucket, SIZE, cache).frames[:]
    name = bucket.removeprefix("s3://").split("/")[0]
    for key, _ in s3.contents(name):
        if key.endswith(".tar"):
            s3.client.delete_object(Bucket=name, Key=key)
    assert_same_frames(open_export(bucket, SIZE, cache), packed)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(content)


def test_a_damaged_shard_of_the_cache_is_fetched_again(
    packed: Pack, bucket: str, cache: Cache
) -> None:
    open_export(bucket, SIZE, cache).frames[:]
    _flip(next(cache.folder.rglob("*.tar")))
    assert_same_frames(open_export(bucket, SIZE, cache), packed)


def test_a_damaged_shard_is_named_and_not_read(folder: Path, cache: Cache) -> None:
    _flip(next(folder.rglob("shard-000003.tar")))
    with pytest.raises(StoreError, match=r"shard-000003\.tar: damaged"):
        open_export(str(folder), SIZE, cache).frames[:]


def test_a_damaged_frame_that_is_read_alone_is_not_taken(
    packed: Pack, bucket: str, s3: Storage, cache: Cache
) -> None:
    name = bucket.removeprefix("s3://").split("/")[0]
    for (key, _), body in s3.contents(name).items():
        if key.endswith(".tar"):
            spoilt = bytes(len(body))
            s3.client.put_object(Bucket=name, Key=key, Body=spoilt)
    with pytest.raises(StoreError, match="came damaged"):
        open_export(bucket, SIZE, small(cache, packed)).frames[0]


def test_a_cache_that_is_too_small_is_refused_with_what_it_needs(bucket: str, cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"--cache-gib .* needs 0\.00 or more, 10 of its shards"):
        open_export(bucket, SIZE, Cache(folder=cache.folder, limit_bytes=1000))


def test_another_size_is_named(bucket: str, cache: Cache) -> None:
    with pytest.raises(ConfigError, match="frames are 64x96, not 96x64; give --height 64"):
        open_export(bucket, Size(height=96, width=64), cache)


def test_a_place_without_an_export_says_how_to_make_one(
    tmp_path: Path, s3: Storage, cache: Cache
) -> None:
    for where in (str(tmp_path), s3.bucket("empty-one")):
        with pytest.raises(StoreError, match="no export here; make one with"):
            open_export(where, SIZE, cache)


def test_an_export_that_was_replaced_while_it_is_read_says_so(
    packed: Pack, bucket: str, cache: Cache
) -> None:
    found = open_export(bucket, SIZE, small(cache, packed))
    place(bucket).delete(found.folder.name + "/")
    with pytest.raises(StoreError, match=r"this export is gone: .* begin a new run"):
        found.frames[:]
    with pytest.raises(StoreError, match="this export is gone"):
        epoch(found)


def test_what_a_source_no_longer_has_leaves_the_cache(
    packed: Pack, bucket: str, cache: Cache, tmp_path: Path
) -> None:
    open_export(bucket, SIZE, cache).frames[:]
    assert list(cache.folder.rglob("*.tar"))
    place(bucket).delete("")
    with pytest.raises(StoreError, match="no export here"):
        open_export(bucket, SIZE, cache)
    assert not list(cache.folder.rglob("*.tar"))


def test_a_version_that_a_run_began_with_is_opened_while_it_is_there(
    packed: Pack, folder: Path, cache: Cache
) -> None:
    (folder / exports.NEWEST.format(SIZE)).write_text('{"export": "0123456789abcdef-64x96"}')
    found = open_export(str(folder), SIZE, cache, version=packed.store_version)
    assert found.store_version == packed.store_version
    with pytest.raises(StoreError, match="damaged or gone"):
        open_export(str(folder), SIZE, cache)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "s3://nobody-made-this/x: no such bucket; make it"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "gives no answer .*AWS_ENDPOINT_URL"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_SHARED_CREDENTIALS_FILE": "/nothing",
            },
            "no keys; set AWS_ACCESS_KEY_ID",
        ),
    ],
    ids=["bucket", "endpoint", "keys"],
)
def test_what_is_wrong_with_a_bucket_is_said_with_a_cure_and_no_secret(
    s3: Storage,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    expected: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((StoreError, ConfigError, TemporaryError), match=expected) as caught:
        open_export("s3://nobody-made-this/x", SIZE, cache)
    assert SECRET not in str(caught.value)
    assert "AKIATRAINING" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/x", "s3://Bucket", "s3://b/../x", "https://h/b", "s3:/", ""]
)
def test_an_address_that_will_not_do_is_refused_and_not_repeated(
    address: str, cache: Cache
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_export(address, SIZE, cache)
    assert "secret" not in str(caught.value)


def test_without_boto3_it_is_said_what_to_install(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"boto3 is missing; pip install 'dicom-node\[s3\]'"):
        open_export("s3://bucket/x", SIZE, cache)


def test_a_folder_that_was_moved_is_opened_where_it_is(
    packed: Pack, folder: Path, cache: Cache, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    shutil.move(folder, tmp_path / "elsewhere")
    assert_same_frames(open_export(str(tmp_path / "elsewhere"), SIZE, cache), packed)
