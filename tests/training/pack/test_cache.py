import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from dicom_node.errors import TemporaryError
from training.pack.cache import Cache, default_folder

SIZE = 1000


def fetching(content: bytes, seen: list[Path] | None = None) -> object:
    def fetch(path: Path) -> None:
        if seen is not None:
            seen.append(path)
        with path.open("r+b") as file:  # never shorter than what is counted
            file.write(content)

    return fetch


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(folder=tmp_path / "cache", limit_bytes=3 * SIZE)


def got(cache: Cache, name: str, seen: list[Path] | None = None) -> Path:
    path = cache.folder / "source" / "export" / f"{name}.tar"
    return cache.got(path, SIZE, fetching(bytes(SIZE), seen))  # type: ignore[arg-type]


def held(cache: Cache) -> list[str]:
    return sorted(path.stem for path in cache.folder.rglob("*.tar"))


def test_what_was_read_last_stays_and_what_was_not_read_for_longest_goes(cache: Cache) -> None:
    for age, name in enumerate(("a", "b", "c")):
        # a clock that is too coarse for this test
        os.utime(got(cache, name), ns=(0, age + 1))
    got(cache, "a")
    got(cache, "d")
    assert held(cache) == ["a", "c", "d"]


def test_a_file_is_fetched_once_by_all_who_want_it(cache: Cache) -> None:
    seen: list[Path] = []
    together = Barrier(4)

    def want(_: int) -> Path:
        together.wait()
        return got(cache, "a", seen)

    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(want, range(4)))
    assert len(paths) == len(seen) == 1


def test_many_that_fetch_side_by_side_stay_below_the_limit(tmp_path: Path) -> None:
    cache = Cache(folder=tmp_path / "cache", limit_bytes=4 * SIZE)
    # one round in seven ended above it when a file took its name while others counted
    for _ in range(40):
        together = Barrier(4)

        def want(who: int, together: Barrier = together) -> None:
            together.wait()
            for number in range(6):
                got(cache, f"{who}-{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(want, range(4)))
        assert len(held(cache)) <= 4
        shutil.rmtree(cache.folder)


def test_a_file_that_is_cut_short_is_fetched_again(cache: Cache) -> None:
    os.truncate(got(cache, "a"), 10)
    assert got(cache, "a").stat().st_size == SIZE


def test_a_fetch_that_fails_leaves_nothing(cache: Cache) -> None:
    def fails(path: Path) -> None:
        raise TemporaryError("away")

    with pytest.raises(TemporaryError, match="away"):
        cache.got(cache.folder / "a.tar", SIZE, fails)
    assert not [path for path in cache.folder.rglob("*") if path.suffix in (".tar", ".part")]


def test_what_a_dead_process_left_makes_room_after_an_hour(cache: Cache) -> None:
    part = got(cache, "a").with_name("dead.part")
    part.write_bytes(bytes(3 * SIZE))
    hour_ago_s = time.time() - 3700
    os.utime(part, (hour_ago_s, hour_ago_s))
    got(cache, "b")
    assert not part.exists()


def test_a_folder_that_cannot_be_written_is_named_with_the_options(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = Cache(folder=tmp_path / "file", limit_bytes=SIZE)
    with pytest.raises(TemporaryError, match=r"file: the cache cannot be written .*--cache-gib"):
        got(cache, "a")


def test_the_cache_is_where_the_user_keeps_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "dicom-node" / "shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_folder() == Path("/home/somebody/.cache/dicom-node/shards")
