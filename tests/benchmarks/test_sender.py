from pathlib import Path

import pytest

from tests.benchmarks.loads import LOADS, Load
from tests.benchmarks.measure import measure
from tests.benchmarks.receivers import compiled_limit, receivers
from tests.benchmarks.sender import Senders

SMALL = next(load for load in LOADS if load.name == "small-4")
NAIVE = next(load for load in LOADS if load.name == "naive-1")


@pytest.mark.slow
@pytest.mark.dimse
@pytest.mark.parametrize("load", [SMALL, NAIVE], ids=lambda load: load.name)
@pytest.mark.parametrize("compiles", [True, False], ids=["in C", "in Python"])
def test_what_the_least_receiver_acknowledges_lies_in_its_folder(
    compiles: bool, load: Load, tmp_path: Path
) -> None:
    program = compiled_limit(tmp_path / "bin") if compiles else None
    if compiles and program is None:
        pytest.skip("no C compiler: apt-get install gcc")
    limit = next(one for one in receivers(program) if one.name == "limit")
    with limit.start(tmp_path / "run") as running, Senders(load.associations) as senders:
        found = measure(running, senders, load, seconds=0.3, tag=7)
    assert not found.faults
    assert found.objects > 0
    assert found.kept == found.acknowledged > found.objects
    kept = list((tmp_path / "run" / "limit" / "new").iterdir())
    assert len(kept) == found.acknowledged
    assert {path.stat().st_size for path in kept} == {load.size_bytes}


@pytest.mark.dimse
def test_an_object_that_vanished_is_not_counted_as_kept(tmp_path: Path) -> None:
    limit = next(one for one in receivers(None) if one.name == "limit")
    with limit.start(tmp_path / "run") as running, Senders(1) as senders:
        lost = type(running)(port=running.port, process=running.process, kept=tmp_path / "empty")
        found = measure(lost, senders, NAIVE, seconds=0.2, tag=8)
    assert found.acknowledged > 0
    assert found.kept == 0


@pytest.mark.dimse
def test_a_receiver_that_is_not_there_is_a_fault_and_no_rate(tmp_path: Path) -> None:
    limit = next(one for one in receivers(None) if one.name == "limit")
    with limit.start(tmp_path / "run") as running, Senders(1) as senders:
        gone = type(running)(port=1, process=running.process, kept=None)
        found = measure(gone, senders, NAIVE, seconds=0.2, tag=9)
    assert found.objects == 0
    assert "ConnectionRefusedError" in found.faults[0]
