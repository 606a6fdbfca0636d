import re
import runpy
from pathlib import Path

import pytest

from dicom_node.records import GROUPS, Geometry, Task
from tests.support.packs import Still, filled, patients

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "research.md").read_text("utf-8")
READING, LOADING, PACKED = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fields = {"geometry": Geometry.CURVILINEAR, "groups": frozenset({"liver"}), "probe": "C5-1"}
    stills = [Still(patient=one, fields=fields) for one in patients("train", 3)]
    filled(tmp_path / "node-data" / "store", stills)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(there: Path, *parts: str) -> None:
    (there / "page.py").write_text("\n".join(parts))
    runpy.run_path(str(there / "page.py"))


def test_the_example_of_the_page_runs(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(there, READING)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"3 frames, version [0-9a-f]{16}", first)
    assert second == "C5-1 ['liver'] None (40, 60)"


@pytest.mark.torch
def test_the_examples_with_torch_run(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is missing: pip install --group train")
    _run(there, READING, LOADING, PACKED)
    *_, loaded, packed = capsys.readouterr().out.splitlines()
    assert loaded == "torch.Size([3, 256, 384]) torch.uint8 tensor(1.)"
    assert packed.endswith("torch.Size([3, 256, 384]) torch.Size([3, 10])")


def test_the_page_names_every_group_geometry_and_task() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows["group"].endswith(", ".join(GROUPS))
    assert rows["geometry"].endswith(", ".join(Geometry))
    assert set(re.findall(r"`Task\.(\w+)`", rows["labelled"])) == {task.name for task in Task}
