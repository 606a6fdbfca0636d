import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.errors import DatabaseDownError, StoreError
from dicom_node.store import WeakLabelStore, audit, files, moving, open_store, places
from dicom_node.store.catalogue import frames
from tests.support.frames import new_frame, speckle
from tests.support.labels import say
from tests.support.slices import new_volume

pytestmark = pytest.mark.peers


def filled(folder: Path) -> str:
    """Fill a store with something in every table, and return its version."""
    with WeakLabelStore(folder) as store:
        for number in range(1, 6):
            store.add_frame(new_frame(seed=number, frame_number=number, frame_time_s=0.1))
        say(store, "d" * 32, 1, quality=2, mask=(speckle() > 99).astype("uint8"))
        store.volumes.put(new_volume())
        return store.version()


def schemas(url: str) -> set[str]:
    """Return the schemas of stores on a server."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        return {one for one in sa.inspect(engine).get_schema_names() if "store_" in one}
    finally:
        engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_store_goes_to_a_server_and_back_with_every_row(folder: Path, postgres_url: str) -> None:
    version = filled(folder)
    before = audit(folder)
    there = moving.move(folder, postgres_url)
    assert there.version == version
    assert there.where.startswith(f"{postgres_url}, schema dicom_node_store_")
    assert sorted(path.name for path in folder.glob("cat*")) == ["catalogue.json"]
    assert len(schemas(postgres_url)) == 1
    assert audit(folder) == before == []
    again = moving.move(folder, postgres_url)
    assert again == there
    back = moving.move(folder, None)
    assert (back.where, back.version, back.rows) == ("catalogue.db", version, there.rows)
    assert (back.rows["frames"], back.rows["volumes"], back.rows["readings"]) == (5, 1, 2)
    assert sorted(path.name for path in folder.glob("cat*")) == ["catalogue.db"]
    assert schemas(postgres_url) == set()
    assert audit(folder) == []


def test_who_has_the_store_open_does_not_write_to_what_it_has_left(
    folder: Path, postgres_url: str
) -> None:
    filled(folder)
    with open_store(folder) as store:
        moving.move(folder, postgres_url)
        with pytest.raises(DatabaseDownError, match="has moved: run the command again"):
            store.add_frame(new_frame(seed=9, frame_number=9))
    with open_store(folder) as store:
        assert store.add_frame(new_frame(seed=9, frame_number=9))


def test_a_copy_that_differs_moves_nothing(
    folder: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = filled(folder)

    def copied(source: sa.Connection, target: sa.Connection) -> Any:
        read = copy(source, target)
        target.execute(frames.update().where(frames.c.frame_number == 3).values(height=1))
        return read

    copy = moving._copied
    monkeypatch.setattr(moving, "_copied", copied)
    with pytest.raises(StoreError, match="not the same as the original"):
        moving.move(folder, postgres_url)
    assert places.read(folder) is None
    with open_store(folder) as store:
        assert store.version() == version


def test_a_folder_without_a_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        moving.move(tmp_path, None)


def test_of_a_store_on_a_server_a_file_is_made_of_one_moment(
    folder: Path, tmp_path: Path, postgres_url: str
) -> None:
    version = filled(folder)
    moving.move(folder, postgres_url)
    (tmp_path / "copy").mkdir()
    moving.copy_to_file(folder, tmp_path / "copy" / "catalogue.db")
    with open_store(tmp_path / "copy") as copy:
        assert copy.version() == version


#: What a move calls where something is durable by then that was not before.
STEPS: tuple[tuple[Any, str], ...] = (
    (moving, "_copied"),
    (moving, "_seen"),
    (moving, "drop"),
    (Path, "replace"),
    (files, "sync"),
)


def _dying(function: Callable[..., Any], at: int, came: list[int]) -> Any:
    def dying(*arguments: Any, **words: Any) -> Any:
        came.append(1)
        if len(came) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **words)

    return dying


def _killed(folder: Path, url: str | None, at: int) -> bool:
    """Move in a process that dies before its nth step; whether it came so far."""
    child = os.fork()
    if child == 0:
        came: list[int] = []
        for owner, name in STEPS:
            setattr(owner, name, _dying(getattr(owner, name), at, came))
        moving.move(folder, url)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.alone
@pytest.mark.parametrize("to_server", [True, False])
def test_a_move_that_is_killed_anywhere_loses_nothing_and_ends_when_it_is_repeated(
    folder: Path, postgres_url: str, to_server: bool
) -> None:
    version = filled(folder)
    there, back = (postgres_url, None) if to_server else (None, postgres_url)
    moving.move(folder, back)
    at = 1
    while _killed(folder, there, at):
        with open_store(folder) as store:
            assert store.version() == version, at
        moving.move(folder, there)
        assert (places.read(folder) is not None) is to_server
        assert audit(folder) == [], at
        assert len(schemas(postgres_url)) == to_server, at
        moving.move(folder, back)
        at += 1
    assert at > 8
