"""Other people's readers of DICOM results, and what they say."""

import gzip
import json
import re
import subprocess
from html import unescape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def segments_by_dcmqi(seg: Path, folder: Path) -> list[NDArray[np.int16]]:
    """Return what dcmqi's segimage2itkimage makes of each segment, (planes, R, C), top plane last.

    The planes of a nominal geometry go down from the first frame, so they come in reverse.
    """
    arguments = ("--outputDirectory", str(folder), "--outputType", "nrrd")
    done = read_by_dcmqi("segimage2itkimage", seg, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return [_volume(path.read_bytes()) for path in sorted(folder.glob("*.nrrd"))]


def _volume(nrrd: bytes) -> NDArray[np.int16]:
    """Read what ITK writes: a header of lines, an empty one, and the values in gzip."""
    header, _, values = nrrd.partition(b"\n\n")
    fields = dict(re.findall(r"^([\w ]+): (.+)$", header.decode("ascii"), re.MULTILINE))
    assert (fields["type"], fields["endian"], fields["encoding"]) == ("short", "little", "gzip")
    columns, rows, planes = map(int, fields["sizes"].split())
    return np.frombuffer(gzip.decompress(values), "<i2").reshape(planes, rows, columns)


def page_by_dcmtk(program: str, report: Path) -> str:
    """Return the words of the page that DCMTK's dsr2html makes of a report."""
    done = subprocess.run([program, str(report)], capture_output=True, text=True, check=True)
    assert not re.search(r"^[EF]: ", done.stderr, re.MULTILINE), done.stderr
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", done.stdout)).split())
