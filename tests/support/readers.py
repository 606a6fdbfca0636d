"""Other people's readers of DICOM results, and what they say."""

import json
import re
import subprocess
from html import unescape
from importlib import resources
from pathlib import Path
from typing import Any


def read_by_dcmqi(program: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of dcmqi (what 3D Slicer reads with) on an object."""
    found = resources.files("dcmqi") / "bin" / program
    command = [str(found), "--inputDICOM", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def measurements_by_dcmqi(report: Path, folder: Path) -> dict[str, Any]:
    """Return what dcmqi's tid1500reader reads of a report."""
    target = folder / f"{report.stem}.json"
    done = read_by_dcmqi("tid1500reader", report, "--outputMetadata", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(target.read_text("utf-8"))
    return read


def page_by_dcmtk(program: str, report: Path) -> str:
    """Return the words of the page that DCMTK's dsr2html makes of a report."""
    done = subprocess.run([program, str(report)], capture_output=True, text=True, check=True)
    assert not re.search(r"^[EF]: ", done.stderr, re.MULTILINE), done.stderr
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", done.stdout)).split())
