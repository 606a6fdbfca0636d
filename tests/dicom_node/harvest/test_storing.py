from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import sqlalchemy as sa

from dicom_node.config import HarvestSettings
from dicom_node.errors import PixelError, TemporaryError
from dicom_node.harvest import Harvester, open_harvester
from dicom_node.harvest.ahead import Ahead
from dicom_node.harvest.decoding import Over, Seen
from dicom_node.harvest.looking import Picture, look_at
from dicom_node.harvest.storing import Storing, Told
from dicom_node.pixels.decode import decode
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Instance
from dicom_node.store import audit, files
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound

REGION = Box(left=0, top=0, right=64, bottom=64)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture
def harvester(tmp_path: Path, sandbox: PixelSandbox) -> Iterator[Harvester]:
    with open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester:
        yield harvester


def _image(path: Path, *seeds: int, **fields: object) -> Instance:
    """Write an image of these pictures, all of them wanted."""
    pixels = np.stack([speckle(64, 64, seed=seed) for seed in seeds])
    regions = [region_item(REGION)]
    return instance_of(
        saved(
            ultrasound(pixels, SequenceOfUltrasoundRegions=regions, FrameTime=400, **fields), path
        )
    )


def _stills(folder: Path, *seeds: int) -> list[Instance]:
    return [_image(folder / f"{n}.dcm", seed) for n, seed in enumerate(seeds)]


def _seen(
    harvester: Harvester, instances: Iterable[Instance], broken: Iterable[Instance] = ()
) -> Iterator[Seen]:
    """Yield what the harvest sees of images, decoded in this process."""
    for one in instances:
        look = look_at(one, sandbox=harvester.sandbox, settings=harvester.settings)
        yield look
        fault = PixelError("no picture") if one in broken else None
        if isinstance(look.found, Picture) and fault is None:
            yield from decode(one.path, look.found.wanted)
        yield Over(fault=fault)


def _waiting(items: Iterable[Seen], error: Exception | None = None) -> Ahead[Seen]:
    """Return items when all of them wait."""
    made = Event()

    def source() -> Generator[Seen, None, None]:
        yield from items
        made.set()
        if error is not None:
            raise error

    seen = Ahead(source(), 999)
    assert made.wait(30)
    return seen


def _storing(harvester: Harvester) -> Storing:
    return Storing(
        store=harvester.store, key=harvester.key, notes=harvester.notes, tables=harvester.tables
    )


def _told(harvester: Harvester, seen: Ahead[Seen]) -> list[Told]:
    with closing(seen):
        return list(_storing(harvester).all(seen))


def _commits(work: Callable[[], object], name: str) -> int:
    """Count the transactions that write to a database meanwhile."""
    found: list[str] = []

    def committed(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("only_reads"):
            found.append(Path(connection.engine.url.database or "").name)

    sa.event.listen(sa.Engine, "commit", committed)
    try:
        work()
    finally:
        sa.event.remove(sa.Engine, "commit", committed)
    return found.count(name)


@pytest.mark.parametrize("name", ["catalogue.db", "harvest.db"])
def test_stills_that_wait_cost_one_transaction_and_are_told_in_order(
    harvester: Harvester, tmp_path: Path, name: str
) -> None:
    stills = _stills(tmp_path, 1, 2, 3, 4, 5)
    told: list[Told] = []
    seen = _waiting(_seen(harvester, stills))
    assert _commits(lambda: told.extend(_told(harvester, seen)), name) == 1
    assert told == [(one, {"frames stored": 1}) for one in stills]
    assert len(harvester.store.frames()) == 5
    assert audit(tmp_path / "data" / "store") == []


def test_nobody_is_told_of_an_image_before_all_that_is_stored_with_it_is_durable(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = _stills(tmp_path, 1, 2, 3)
    with closing(_waiting(_seen(harvester, stills))) as seen:
        storing = _storing(harvester).all(seen)
        assert next(storing) == (stills[0], {"frames stored": 1})
        assert len(harvester.store.frames()) == 3
        storing.close()


def test_equal_stills_that_are_stored_together_count_as_one_and_its_duplicates(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = _stills(tmp_path, 7, 8, 7, 7)
    counts = [counts for _, counts in _told(harvester, _waiting(_seen(harvester, stills)))]
    duplicate = {"frames stored": 0, "duplicate": 1}
    assert counts == [{"frames stored": 1}, {"frames stored": 1}, duplicate, duplicate]
    assert len(harvester.store.frames()) == 2


def test_a_still_that_cannot_be_decoded_costs_itself_alone(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = _stills(tmp_path, 1, 2, 3)
    seen = _waiting(_seen(harvester, stills, broken=stills[1:2]))
    assert [counts for _, counts in _told(harvester, seen)] == [
        {"frames stored": 1},
        {"frames stored": 0, "undecodable": 1},
        {"frames stored": 1},
    ]
    assert len(harvester.store.frames()) == 2


def test_another_picture_under_a_uid_of_one_that_waits_with_it_is_refused(
    harvester: Harvester, tmp_path: Path
) -> None:
    fields = {"SOPInstanceUID": "2.25.4711"}
    stills = [_image(tmp_path / f"{seed}.dcm", seed, **fields) for seed in (1, 2)]
    stills += _stills(tmp_path, 3)
    assert [counts for _, counts in _told(harvester, _waiting(_seen(harvester, stills)))] == [
        {"frames stored": 1},
        {"frames stored": 0, "refused": 1},
        {"frames stored": 1},
    ]


def test_a_disk_that_does_not_take_one_still_costs_none_before_it(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = _stills(tmp_path, 1, 2, 3, 4)
    frames = tmp_path / "data" / "store" / "frames"
    ids = [files.digest(speckle(64, 64, seed=seed)) for seed in (1, 2, 3, 4)]
    in_the_way = files.path_of(frames, ids[2]).parent
    assert [name[:2] for name in ids].count(in_the_way.name) == 1
    frames.mkdir()
    in_the_way.write_text("in the way")
    told: list[Told] = []
    seen = _waiting(_seen(harvester, stills))
    with closing(seen), pytest.raises(TemporaryError, match="cannot be written"):
        told.extend(_storing(harvester).all(seen))
    assert told == [(one, {"frames stored": 1}) for one in stills[:2]]
    in_the_way.unlink()
    again = _told(harvester, _waiting(_seen(harvester, stills[2:])))
    assert again == [(one, {"frames stored": 1}) for one in stills[2:]]
    assert len(harvester.store.frames()) == 4


def test_an_error_over_one_still_is_raised_when_those_before_it_are_durable(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = _stills(tmp_path, 1, 2)
    told: list[Told] = []
    seen = _waiting(_seen(harvester, stills), error=ZeroDivisionError())
    with closing(seen), pytest.raises(ZeroDivisionError):
        told.extend(_storing(harvester).all(seen))
    assert [one for one, _ in told] == stills
    assert len(harvester.store.frames()) == 2
    assert len(harvester.notes.study_uids()) == 2


def test_a_still_waits_for_no_cine_behind_it(harvester: Harvester, tmp_path: Path) -> None:
    still, cine = _image(tmp_path / "still.dcm", 1), _image(tmp_path / "cine.dcm", 2, 3)
    is_told = Event()

    def source() -> Generator[Seen, None, None]:
        for item in _seen(harvester, [still, cine]):
            if isinstance(item, tuple) and np.array_equal(item[1], speckle(64, 64, seed=2)):
                assert is_told.wait(30)
            yield item

    with closing(Ahead(source(), 999)) as seen:
        storing = _storing(harvester).all(seen)
        assert next(storing) == (still, {"frames stored": 1})
        is_told.set()
        assert list(storing) == [(cine, {"frames stored": 2})]


def test_a_patient_who_was_refused_is_left_out_of_what_waits(
    harvester: Harvester, tmp_path: Path
) -> None:
    stills = [_image(tmp_path / f"{n}.dcm", n, PatientID=f"MRN-{n}") for n in (1, 2, 3)]
    harvester.notes.refuse(harvester.key.token("refused", "MRN-2"))
    assert [counts for _, counts in _told(harvester, _waiting(_seen(harvester, stills)))] == [
        {"frames stored": 1},
        {"frames stored": 0, "patient refused": 1},
        {"frames stored": 1},
    ]
    assert len(harvester.notes.study_uids()) == 2
