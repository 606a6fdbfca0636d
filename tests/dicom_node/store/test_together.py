import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.store import NewFrame, WeakLabelStore, audit, catalogue, files, together
from dicom_node.store.pictures import Pictures
from tests.support.frames import new_frame

pytestmark = pytest.mark.usefixtures("engine")

#: The stages of storing frames together, in order.
STAGES: dict[str, tuple[Any, str]] = {
    "a picture": (files, "put"),
    "the names": (Pictures, "settle"),
    "a row": (catalogue, "put"),
    "the commit": (together.Together, "settle"),
}


def _frames(count: int) -> list[NewFrame]:
    """Return stills of as many instances and patients."""
    return [
        new_frame(seed=number, instance=f"{number + 1:032x}", patient=f"{number + 101:032x}")
        for number in range(count)
    ]


def _path(folder: Path, frame: NewFrame) -> Path:
    return files.path_of(folder / "frames", frame.frame_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WeakLabelStore]:
    with WeakLabelStore(tmp_path / "store") as store:
        yield store


def _ids(store: WeakLabelStore) -> set[str]:
    return {frame.frame_id for frame in store.frames()}


def test_frames_that_are_stored_together_wait_for_the_disk_once(
    store: WeakLabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, folder = _frames(6), tmp_path / "store"
    store.add_frame(new_frame(seed=99))
    came: list[int | str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        came.append(os.fstat(descriptor).st_ino)

    def committed(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("only_reads"):
            came.append("commit")

    monkeypatch.setattr(os, "fsync", watched)
    sa.event.listen(sa.Engine, "commit", committed)
    try:
        with store.together() as one:
            assert [one.put_frame(frame) for frame in frames] == [True] * 6
            assert len(store.frames()) == 1
    finally:
        sa.event.remove(sa.Engine, "commit", committed)
    pictures = {_path(folder, frame).stat().st_ino for frame in frames}
    folders = {_path(folder, frame).parent.stat().st_ino for frame in frames}
    above = (folder / "frames").stat().st_ino
    assert set(came[:6]) == pictures
    assert set(came[6:-1]) == folders | {above}
    assert len(came) == 6 + len(folders) + 2
    assert came[-1] == "commit"
    assert _ids(store) >= {frame.frame_id for frame in frames}
    assert audit(folder) == []


def test_pixels_that_are_on_their_way_already_are_written_once(store: WeakLabelStore) -> None:
    first, again = new_frame(), new_frame(instance="e" * 32, patient="f" * 32)
    with store.together() as one:
        assert one.put_frame(first)
        assert one.has_frame(first.frame_id)
        assert not one.put_frame(again)
        assert not one.put_frame(again)
    (stored,) = store.frames()
    assert stored.patient == first.patient
    assert [seen.frame_id for seen in store.clip(again.instance)] == [first.frame_id]


def test_other_pixels_for_a_frame_that_is_on_its_way_are_refused(store: WeakLabelStore) -> None:
    with store.together() as one:
        one.put_frame(new_frame())
        with pytest.raises(StoreError, match="share one SOP Instance UID"):
            one.put_frame(new_frame(seed=1))
        with pytest.raises(StoreError, match="share one SOP Instance UID"):
            one.put_frame(new_frame(seed=1, frame_number=2, rows=999))
    assert len(store.frames()) == 1


def test_a_clip_may_repeat_a_frame_that_is_on_its_way(store: WeakLabelStore) -> None:
    frame = new_frame()
    with store.together() as one:
        with pytest.raises(StoreError, match="harvest it first"):
            one.add_repeat(frame.instance, 2, frame.frame_id)
        one.put_frame(frame)
        one.add_repeat(frame.instance, 2, frame.frame_id)
    assert [seen.frame_number for seen in store.clip(frame.instance)] == [1, 2]


def test_more_than_may_wait_is_committed_before_the_end(
    store: WeakLabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOST_BYTES", 2 * new_frame().pixels.nbytes)
    with store.together() as one:
        for count, frame in enumerate(_frames(5)):
            one.put_frame(frame)
            one.keep()
            assert len(store.frames()) == one.durable == count // 2 * 2
    assert len(store.frames()) == one.durable == 5


def test_what_the_disk_does_not_take_ends_what_comes_after_it_and_nothing_before_it(
    store: WeakLabelStore, tmp_path: Path
) -> None:
    frames = _frames(4)
    in_the_way = _path(tmp_path / "store", frames[2]).parent
    assert in_the_way.name not in {_path(tmp_path, one).parent.name for one in frames[:2]}
    in_the_way.parent.mkdir()
    in_the_way.write_text("in the way")
    with pytest.raises(TemporaryError, match="cannot be written"), store.together() as one:
        for frame in frames:
            one.put_frame(frame)
            one.keep()
    assert one.durable == 2
    assert _ids(store) == {frame.frame_id for frame in frames[:2]}
    in_the_way.unlink()
    with store.together() as one:
        assert [one.put_frame(frame) for frame in frames] == [False, False, True, True]
    assert len(store.frames()) == 4
    assert audit(tmp_path / "store") == []


def test_an_error_costs_what_was_put_since_the_last_that_stays(store: WeakLabelStore) -> None:
    first, second, third = _frames(3)
    with pytest.raises(ZeroDivisionError), store.together() as one:
        one.put_frame(first)
        one.keep()
        one.put_frame(second)
        raise ZeroDivisionError
    assert one.durable == 1
    assert _ids(store) == {first.frame_id}
    with store.together() as one:
        assert [one.put_frame(frame) for frame in (first, second, third)] == [False, True, True]
    assert len(store.frames()) == 3


def _dying(function: Callable[..., Any], moment: str, arrival: int) -> Callable[..., Any]:
    came = iter(range(1, 99))

    def dying(*arguments: Any) -> Any:
        is_it = next(came) == arrival
        if is_it and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return dying


def _killed(folder: Path, stage: str, moment: str) -> list[int]:
    """Store four stills in a process that dies over them; return what it called durable."""
    owner, name = STAGES[stage]
    arrival = 2 if stage in ("a picture", "a row") else 1
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        with os.fdopen(told, "rb") as heard:
            durable = list(heard.read())
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        return durable
    setattr(owner, name, _dying(getattr(owner, name), moment, arrival))
    with WeakLabelStore(folder) as store, store.together() as one:
        for frame in _frames(4):
            one.put_frame(frame)
    os.write(tell, bytes(range(4)))
    os._exit(0)


@pytest.mark.alone
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_between_the_stages_leaves_no_row_without_its_picture(
    tmp_path: Path, stage: str, moment: str
) -> None:
    folder = tmp_path / "store"
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(seed=99))
    assert _killed(folder, stage, moment) == []
    left = {finding.what for finding in audit(folder)}
    assert all("not named in the catalogue" in what for what in left)
    is_committed = (stage, moment) == ("the commit", "after")
    with WeakLabelStore(folder) as store:
        assert len(store.frames()) == (5 if is_committed else 1)
        with store.together() as one:
            new = [one.put_frame(frame) for frame in _frames(4)]
        assert new == [not is_committed] * 4
        assert len(store.frames()) == 5
    # half a picture may be left, which an erasure sweeps
    assert all(".part" in one.where for one in audit(folder))
