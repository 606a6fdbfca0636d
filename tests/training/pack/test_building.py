import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.pixels.geometry import to_network
from dicom_node.store import Erasure, WeakLabelStore, audit
from tests.support.accounts import as_another, given_away, lock, shared
from tests.support.labels import say
from tests.support.packs import Still, filled, mask, patients
from training import pack
from training.config import Size

SIZE = Size(height=64, width=96)
PATIENTS = patients("train", 3)


def stills(count: int = 6) -> list[Still]:
    return [
        Still(patient=PATIENTS[n % 3], label={"mask": mask(n, 2)} if n % 2 else {})
        for n in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Folder of a store with six frames of three patients; every second has a mask."""
    return filled(tmp_path / "store", stills())


def spoil(store: Path, *places: int, kind: str = "frames") -> list[str]:
    """Cut pictures of a store short and return the ids of their frames."""
    files = sorted((store / kind).rglob("*.png"))
    for place in places:
        files[place].write_bytes(files[place].read_bytes()[:60])
    return [files[place].stem for place in places]


def test_a_pack_holds_what_serving_would_see_in_the_order_of_the_store(
    store: Path, tmp_path: Path
) -> None:
    built = pack.build(store, tmp_path / "pack", SIZE)
    with WeakLabelStore(store) as opened:
        frames, version = opened.frames(), opened.version()
        for row, frame in enumerate(frames):
            seen = to_network(opened.pixels(frame.frame_id), None, height=64, width=96)
            assert np.array_equal(built.frames[row], seen)
            wanted = np.zeros((64, 96), np.uint8)
            if frame.has_mask:
                source = opened.mask(frame.frame_id)
                wanted = to_network(source, None, height=64, width=96, nearest=True)
            assert built.masks is not None
            assert np.array_equal(built.masks[row], wanted)
    assert built.rows.frame_id.tolist() == [frame.frame_id for frame in frames]
    assert built.rows.has_mask.tolist() == [frame.has_mask for frame in frames]
    assert (built.store_version, built.size, len(built)) == (version, SIZE, 6)


def test_a_store_without_masks_makes_a_pack_without_masks(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", [Still(patient=PATIENTS[0])])
    built = pack.build(store, tmp_path / "pack", SIZE)
    assert built.masks is None
    assert not (tmp_path / "pack" / "masks.npy").exists()


def test_progress_counts_every_frame(store: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pack.build(store, tmp_path / "pack", SIZE, progress=lambda *pair: told.append(pair))
    assert told == [(n, 6) for n in range(1, 7)]


def test_an_empty_store_asks_for_a_harvest_and_leaves_nothing(tmp_path: Path) -> None:
    WeakLabelStore(tmp_path / "store").close()
    with pytest.raises(StoreError, match="holds 0 frames; harvest studies first"):
        pack.ensure(tmp_path / "store", None, SIZE)
    assert [path.suffix for path in (tmp_path / "packs").iterdir()] == [".lock"]


def test_a_folder_without_a_store_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no weak-label store"):
        pack.ensure(tmp_path / "absent", None, SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_inside_the_store_is_refused(store: Path) -> None:
    with pytest.raises(StoreError, match="inside the store"):
        pack.build(store, store / "pack", SIZE)
    assert audit(store) == []


@pytest.mark.parametrize("kind", ["frames", "masks"])
def test_a_frame_that_cannot_be_read_is_left_out_and_named(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    (spoiled,) = spoil(store, 1, kind=kind)
    with caplog.at_level(logging.WARNING):
        built = pack.build(store, tmp_path / "pack", SIZE)
    assert len(built) == 5
    assert spoiled not in built.rows.frame_id
    assert built.left_out == (spoiled[:12],)
    assert f"1 of 6 frames cannot be read ({spoiled[:12]})" in caplog.text
    whole = pack.build(filled(tmp_path / "whole", stills()), tmp_path / "other", SIZE)
    kept = whole.rows.frame_id != spoiled
    assert np.array_equal(built.frames, whole.frames[kept])
    assert built.masks is not None
    assert whole.masks is not None
    assert np.array_equal(built.masks, whole.masks[kept])


def test_a_store_of_which_nothing_can_be_read_makes_no_pack(store: Path, tmp_path: Path) -> None:
    spoil(store, *range(6))
    with pytest.raises(StoreError, match=r"6 of 6 frames cannot be read .*\.\.\..*store audit"):
        pack.build(store, tmp_path / "pack", SIZE)
    assert not list(tmp_path.glob("pack*[!k]"))


def test_values_that_a_label_set_does_not_know_are_background(store: Path, tmp_path: Path) -> None:
    # as a store from before values were checked may hold them
    for picture in (store / "masks").rglob("*.png"):
        with WeakLabelStore(store) as opened:
            old = opened.mask(picture.stem)
        Image.fromarray(np.where(old == 1, 255, old).astype(np.uint8)).save(picture)
    built = pack.build(store, tmp_path / "pack", SIZE)
    assert set(np.unique(built.masks)) == {0, 2}


def test_the_cache_is_asked_first_and_misses_when_the_store_or_the_size_changes(
    store: Path, tmp_path: Path
) -> None:
    first = pack.ensure(store, None, SIZE)
    assert first.folder == tmp_path / "packs" / f"{first.store_version}-64x96"
    made = (first.folder / "frames.npy").stat().st_ino
    assert (pack.ensure(store, None, SIZE).folder / "frames.npy").stat().st_ino == made
    other = pack.ensure(store, None, Size(height=96, width=96))
    assert other.folder.name == f"{first.store_version}-96x96"
    with WeakLabelStore(store) as opened:
        say(opened, opened.frames()[0].instance, 1, quality=1)
    assert pack.ensure(store, None, SIZE).store_version != first.store_version
    assert audit(store) == []


def test_a_cached_pack_of_another_format_is_built_again(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = pack.ensure(store, tmp_path / "cache", SIZE).folder / "pack.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"format": 99}))
    assert len(pack.ensure(store, tmp_path / "cache", SIZE)) == 6
    assert "format 99" in caplog.text


def test_a_killed_build_is_never_opened_and_the_next_one_sweeps_it(
    store: Path, tmp_path: Path
) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from training import pack\n"
        "from training.config import Size\n"
        "def die(done, total):\n"
        "    if done == 4: os.kill(os.getpid(), 9)\n"
        "store, folder = map(pathlib.Path, sys.argv[1:])\n"
        "pack.build(store, folder, Size(height=64, width=96), progress=die)\n"
    )
    folder = tmp_path / "pack"
    killed = subprocess.run([sys.executable, "-c", script, store, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "pack.part").is_dir()
    with pytest.raises(StoreError, match="no pack here"):
        pack.open(folder)
    with pytest.raises(StoreError, match="no pack here"):
        pack.open(tmp_path / "pack.part")
    assert len(pack.build(store, folder, SIZE)) == 6
    assert sorted(path.name for path in tmp_path.glob("pack*")) == ["pack", "pack.lock"]


def test_two_at_once_build_one_pack(store: Path) -> None:
    told: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        opened = list(
            pool.map(
                lambda _: pack.ensure(store, None, SIZE, progress=lambda n, _: told.append(n)),
                range(2),
            )
        )
    assert told == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(opened[0].frames, opened[1].frames)


def test_a_pack_that_was_opened_can_be_read_while_another_takes_its_place(
    store: Path, tmp_path: Path
) -> None:
    old = pack.build(store, tmp_path / "pack", SIZE)
    before = np.array(old.frames)
    assert len(pack.build(store, tmp_path / "pack", Size(height=96, width=96))) == 6
    assert np.array_equal(old.frames, before)
    assert pack.open(tmp_path / "pack").size == Size(height=96, width=96)


def test_a_disk_that_does_not_take_the_pack_is_a_passing_error_and_leaves_nothing(
    store: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(TemporaryError, match=r"pack cannot be written \(File too large\)"):
            pack.build(store, tmp_path / "pack", Size(height=128, width=192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.glob("pack*")) == ["pack.lock"]


def test_a_folder_that_cannot_be_made_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TemporaryError, match="cannot be written"):
        pack.build(store, tmp_path / "file" / "pack", SIZE)


_ENSURE = """
made = pack.ensure(folder / "store", None, Size(height=64, width=96), version={version!r})
print(len(made), made.folder)
"""
_KEPT = """
print(pack.kept(folder / "store", None, Size(height=64, width=96), version={version!r}))
"""
_OF_PACKS = "from training import pack; from training.config import Size"


def _asked(share: Path, home: Path, code: str = _ENSURE, version: str | None = None) -> str:
    """Let another account ask for a pack; return what it was told."""
    return as_another(code.format(version=version), share, imports=_OF_PACKS, home=home)


def _ensured(share: Path, home: Path) -> tuple[str, Path]:
    """Let another account find or build a pack; return its number of frames and its folder."""
    count, folder = _asked(share, home).split()
    return count, Path(folder)


def _erase(store: Path, patient: str) -> None:
    with Erasure(store, patient) as erasure, erasure.alone():
        erasure.run([store.parent / "packs"])


@pytest.fixture
def share(store: Path) -> Iterator[Path]:
    """Yield a folder with the store in it that another account may only read."""
    with shared(store.parent) as made:
        yield made


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield the cache of another account."""
    with tempfile.TemporaryDirectory() as made:
        given_away(Path(made))
        yield Path(made)


def test_the_pack_of_a_store_that_may_only_be_read_lies_with_the_user_and_follows_it(
    share: Path, home: Path
) -> None:
    pack.ensure(share / "store", None, SIZE)  # closed to others
    count, first = _ensured(share, home)
    assert count == "6"
    assert first.parents[1] == home / "dicom-node" / "packs"
    _erase(share / "store", PATIENTS[0])
    count, second = _ensured(share, home)
    assert count == "4"
    assert second.is_dir()
    assert not first.exists(), "it holds who was erased"


def test_a_pack_with_the_user_that_holds_who_was_erased_goes_when_the_owner_has_a_new_one(
    share: Path, home: Path
) -> None:
    _, first = _ensured(share, home)
    _erase(share / "store", PATIENTS[0])
    beside = pack.ensure(share / "store", None, SIZE).folder
    lock(beside.parent)
    assert _ensured(share, home) == ("4", beside)
    assert not first.exists(), "it holds who was erased"


@pytest.mark.parametrize(
    ("code", "told"), [(_ENSURE, "the pack that the run began with is gone"), (_KEPT, "None")]
)
def test_a_half_done_run_does_not_go_on_with_who_was_erased(
    share: Path, home: Path, code: str, told: str
) -> None:
    _, first = _ensured(share, home)
    version = first.name.partition("-")[0]
    assert str(first) in _asked(share, home, version=version), "as long as nobody was"
    _erase(share / "store", PATIENTS[0])
    assert told in _asked(share, home, code, version)
    assert not first.exists(), "it holds who was erased"


def test_a_pack_with_the_user_is_kept_where_the_share_is_not_there(share: Path, home: Path) -> None:
    _, first = _ensured(share, home)
    (share / "store").rename(share / "away")
    version = first.name.partition("-")[0]
    assert str(first) in _asked(share, home, _KEPT, version)


def test_a_pack_beside_a_store_that_may_only_be_read_is_taken(store: Path, home: Path) -> None:
    made = pack.ensure(store, None, SIZE)
    with shared(store.parent) as share:
        assert _ensured(share, home) == ("6", share / "packs" / made.folder.name)
