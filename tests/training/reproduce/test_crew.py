import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.matrices import reproduce, tiny
from tests.support.nodes import until
from training import runs
from training.pack import Pack
from training.reproduce import results
from training.reproduce.cells import Plan

QUALITY = {"task": "quality", "epochs": 2, "batch_size": 4}

pytestmark = pytest.mark.slow


def of_quality(**changes: Any) -> Plan:
    return tiny(**{"tasks": {"quality": QUALITY}} | changes)


@pytest.mark.timeout(240)  # the matrix runs twice, once in processes that load torch
def test_cells_side_by_side_come_to_what_they_come_to_in_turn(
    phantoms: Pack, tmp_path: Path
) -> None:
    together, turns = of_quality(at_once=2), of_quality()
    entries, told = reproduce(together, phantoms, tmp_path / "together")
    assert entries.failed() == {}
    assert entries.machines() == ["1 CPU core, 32-true, 2 cells at once"]
    assert sorted(line.partition("/")[0] for line in told) == ["1", "2", "3", "4", "5"]
    reproduce(turns, phantoms, tmp_path / "turns")
    for one, other in zip(
        results.read(together, tmp_path / "together"),
        results.read(turns, tmp_path / "turns"),
        strict=True,
    ):
        np.testing.assert_array_equal(one.score, other.score)


def test_fine_tuning_waits_for_its_pretraining_and_fails_with_it(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = of_quality(strategies=["baseline", "dcm"], compare=[], at_once=2)
    [pretraining] = layout.pretrain
    folder = results.folder_of(tmp_path, pretraining)
    info = {"kind": "pretrain", "settings": pretraining.settings}
    runs.begin(
        folder, runs.RunInfo.model_validate(info | {"store_version": phantoms.store_version})
    )
    (folder / runs.CHECKPOINT).write_bytes(b"no checkpoint")
    entries, _ = reproduce(layout, phantoms, tmp_path)
    after_it = [cell for cell in layout.finetune if cell.start is not None]
    assert entries.failed().keys() == {pretraining.name, *(cell.name for cell in after_it)}
    for cell in after_it:
        assert entries.failed()[cell.name] == f"{pretraining.name} failed"


@pytest.mark.alone
def test_a_process_that_is_killed_costs_its_cell_alone(phantoms: Pack, tmp_path: Path) -> None:
    # long enough to be killed in the middle
    tasks = {"quality": QUALITY | {"epochs": 40}}
    layout = of_quality(
        tasks=tasks, strategies=["baseline"], compare=[], seeds=[0, 1, 2], at_once=2
    )
    first = results.folder_of(tmp_path, layout.finetune[0])
    ours = psutil.Process()
    before = {child.pid for child in ours.children()}

    def kill() -> None:
        until((first / runs.INFO).exists)
        # named by the end of its arguments: the resource tracker is a child as well
        workers = [c for c in ours.children() if c.pid not in before and "spawn_main" in told(c)]
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    entries, _ = reproduce(layout, phantoms, tmp_path)
    killer.join()
    [reason] = entries.failed().values()
    assert reason.startswith(f"its process ended with status {-signal.SIGKILL}; ")
    assert sum(results.finished(tmp_path, cell) is not None for cell in layout.cells) == 2
    again, _ = reproduce(layout, phantoms, tmp_path)
    assert again.failed() == {}


def told(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
