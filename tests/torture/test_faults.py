import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import POINTS, RECEIVER, ROLES, WORKER, Fault, Faults, Point, resolve

SYNC = Point(RECEIVER, "dicom_node.inbox.disk", "Disk.sync")
RENAME = Point(RECEIVER, "dicom_node.inbox.disk", "Disk.rename")
RECEIVE_THREE = """
import sys
from pathlib import Path
from tests.support.faults import install

install().take_role(sys.argv[2])
from dicom_node.inbox import Inbox

inbox = Inbox(Path(sys.argv[1]), min_free_bytes=0)
for _ in range(3):
    part = inbox.create()
    part.write(b"data")
    part.commit()
"""


def receive_three(folder: Path, faults: Faults, role: str = RECEIVER) -> int:
    """Receive three files in a process that has the fault points; return its exit status."""
    return subprocess.run(
        [sys.executable, "-c", RECEIVE_THREE, str(folder), role],
        env=os.environ | faults.environment,
        check=False,
        start_new_session=True,
    ).returncode


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.dcm"))


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path / "faults")


@pytest.mark.parametrize("point", [*POINTS, *ROLES], ids=lambda point: point.name)
def test_every_fault_point_is_in_the_code(point: Point) -> None:
    assert callable(resolve(point))


def test_no_two_fault_points_have_one_name() -> None:
    assert len({point.name for point in POINTS}) == len(POINTS)


def test_a_point_that_is_not_in_the_code_is_named_with_its_cure() -> None:
    with pytest.raises(LookupError, match=r"has no Part.vanish: correct POINTS"):
        resolve(Point(RECEIVER, "dicom_node.inbox.part", "Part.vanish"))


def test_where_nothing_is_armed_nothing_happens(tmp_path: Path, faults: Faults) -> None:
    assert receive_three(tmp_path / "inbox", faults) == 0
    assert len(names(tmp_path / "inbox" / "new")) == 3


@pytest.mark.parametrize("is_group", [False, True], ids=["the process", "the group"])
def test_a_process_ends_before_the_step_that_is_armed(
    tmp_path: Path, faults: Faults, is_group: bool
) -> None:
    fault = Fault(number=0, point=SYNC, moment="before", is_group=is_group)
    faults.arm(fault)
    assert receive_three(tmp_path / "inbox", faults) == -signal.SIGKILL
    assert faults.has_fired(fault)
    assert len(faults.pids(RECEIVER)) == 1
    assert names(tmp_path / "inbox" / "new") == []
    assert len(names(tmp_path / "inbox" / "tmp")) == 1


def test_a_process_ends_after_the_arrival_that_is_armed_and_the_next_does_not(
    tmp_path: Path, faults: Faults
) -> None:
    faults.arm(Fault(number=0, point=RENAME, moment="after", arrival=2))
    assert receive_three(tmp_path / "inbox", faults) == -signal.SIGKILL
    assert len(names(tmp_path / "inbox" / "new")) == 2
    assert receive_three(tmp_path / "inbox", faults) == 0
    assert len(names(tmp_path / "inbox" / "new")) == 5


def test_a_point_of_another_process_does_not_fire(tmp_path: Path, faults: Faults) -> None:
    fault = Fault(number=0, point=SYNC, moment="before")
    faults.arm(fault)
    assert receive_three(tmp_path / "inbox", faults, WORKER) == 0
    assert not faults.has_fired(fault)
    faults.disarm()
    assert receive_three(tmp_path / "inbox", faults) == 0
