"""The SEG of a long cine: the seconds until it is made and on the disk, and until it is checked."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydicom.dataset import FileDataset

from dicom_node.forms import SegmentationForm
from dicom_node.records import FIRST_EDITION, Segmentation
from dicom_node.results.gate import segmentation_faults
from dicom_node.results.segmentation import build_segmentation, segmentation_series_uid
from dicom_node.results.source import Source, odd_values_allowed, read_source
from tests.support.analyses import (
    CINE,
    INSTALLATION,
    altered,
    discs,
    facts_of,
    instance_of,
    pydicom_file,
    segmentation_of,
)

FRAMES, ROWS, COLUMNS = 100, 768, 1024


@dataclass(frozen=True, kw_only=True)
class Made:
    """One SEG of two segments."""

    #: built, written, and forced to the disk
    made_s: float
    #: read back and compared, pixel by pixel
    checked_s: float
    size_bytes: int


def long_cine(folder: Path, rounds: int) -> list[Made]:
    """Make the SEG of a cine again and again, in a process that holds no more than a node's does.

    The benchmark's own holds torch and a network, too.
    """
    command = [sys.executable, "-m", __name__, str(folder), str(rounds)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [Made(**one) for one in json.loads(said)]


def _rounds(folder: Path, rounds: int) -> list[Made]:
    """Return all rounds but the first, in which everything warms up."""
    folder.mkdir(parents=True)
    path = altered(pydicom_file(CINE), folder / "cine.dcm", _long)
    facts = facts_of(path)
    said = segmentation_of(facts, tuple(range(1, FRAMES + 1)))
    said = replace(said, label_map=discs(facts, FRAMES))
    source = read_source(instance_of(path), facts)
    with odd_values_allowed():
        return [_make(source, said, folder / "seg.dcm") for _ in range(rounds + 1)][1:]


def _make(source: Source, said: Segmentation, path: Path) -> Made:
    form = SegmentationForm.HYBRID
    series = segmentation_series_uid(source, said.algorithm.name, form)
    began = time.perf_counter()
    seg = build_segmentation(
        source,
        said,
        INSTALLATION,
        edition=FIRST_EDITION,
        series_instance_uid=series,
        form=form,
    )
    with path.open("wb") as file:
        seg.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())
    made = time.perf_counter()
    faults = segmentation_faults(
        path, source=source, segmentation=said, edition=FIRST_EDITION, form=form
    )
    checked = time.perf_counter()
    assert faults == []
    return Made(made_s=made - began, checked_s=checked - made, size_bytes=path.stat().st_size)


def _long(header: FileDataset) -> None:
    header.NumberOfFrames, header.Rows, header.Columns = FRAMES, ROWS, COLUMNS
    del header.SequenceOfUltrasoundRegions


if __name__ == "__main__":
    found = _rounds(Path(sys.argv[1]), int(sys.argv[2]))
    assert "torch" not in sys.modules
    print(json.dumps([asdict(one) for one in found]))  # noqa: T201
