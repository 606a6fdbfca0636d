import os
import time
from pathlib import Path

import pytest

from dicom_node.cli import machine
from dicom_node.config import Config, InferSettings, NodeSettings


def node_in(folder: Path, **settings: object) -> Config:
    return Config(node=NodeSettings.model_validate({"data": folder} | settings), bundles=folder)


def test_a_disk_below_its_floor_is_a_fault_and_one_near_it_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 3 * 2**30})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    for floor_gib, is_fault, is_warning in ((4, True, False), (2, False, True), (1, False, False)):
        [(_, fault, found)] = machine.disk(node_in(tmp_path / "absent", min_free_gib=floor_gib))
        assert bool(fault) is is_fault
        assert ("warning:" in found) is is_warning
        assert "3.0 GiB free" in fault + found


def test_a_slow_disk_is_a_warning_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "SLOW_FSYNC_MS", 1e6)
    [(_, fault, found)] = machine.fsync(node_in(tmp_path))
    assert fault == ""
    assert found.endswith("ms each")
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.021))
    [(_, fault, found)] = machine.fsync(node_in(tmp_path))
    assert fault == ""
    assert float(found.split()[0]) >= 21
    assert "warning: every object waits for it" in found


@pytest.mark.parametrize(
    ("state", "said"),
    [(0, "is kept right"), (5, "warning: the kernel says"), (None, "not known here")],
)
def test_the_clock_is_as_the_kernel_says(
    state: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_adjtimex", lambda: state)
    [(_, fault, found)] = machine.clock(Config())
    assert (fault, said in found) == ("", True)


def test_the_kernel_is_really_asked() -> None:
    assert machine._adjtimex() in {None, *range(6)}


@pytest.mark.parametrize(
    ("offered", "has_device", "said"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], True, "CUDA is offered"),
        (["CPUExecutionProvider"], True, "warning: a GPU is here"),
        (["CPUExecutionProvider"], False, "none: models run on the CPU"),
    ],
)
def test_a_gpu_that_no_model_can_use_is_a_warning(
    offered: list[str],
    has_device: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "providers", lambda: offered)
    monkeypatch.setattr(machine, "_has_device", lambda: has_device)
    [(_, fault, found)] = machine.gpu(node_in(tmp_path))
    assert (fault, said in found) == ("", True)
    served = node_in(tmp_path).model_copy(update={"infer": InferSettings(url="grpc://h:8001")})
    assert machine.gpu(served) == []
