"""Public images as DICOM studies: what is sent, and what is known of it besides."""

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

#: All sets of the folder but the lung videos: ``pocus`` and ``pocus_cv5`` are the same videos, and
#: belong to another protocol.
SETS = ("ddti", "busi", "hc18", "abdominal_rus", "timtrack_muscle")
_UIDS = ("StudyInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One single-frame image on its way to the node."""

    file: Path
    set_name: str
    sop_instance_uid: str
    study_instance_uid: str
    #: as in the index of the set
    label: str
    #: label map of the size of the image, None where nobody drew one
    mask: Path | None


def make_studies(
    images: Path, tool: Path, out: Path, *, sets: Sequence[str] = SETS, studies: int | None = None
) -> list[Sent]:
    """Have the data folder's own tool write the studies, and return the images in them.

    Parameters
    ----------
    images : Path
        The folder ``ultrasound`` with ``index.csv``.
    tool : Path
        ``make_studies.py``.
    out : Path
        Where the studies go; the same call makes the same studies, UIDs included.
    sets : sequence of str
        Which sets.
    studies : int, optional
        At most so many studies a set.
    """
    command = [sys.executable, str(tool), str(out), "--root", str(images)]
    command += [word for name in sets for word in ("--dataset", name)]
    command += [] if studies is None else ["--studies", str(studies)]
    subprocess.run(command, check=True, capture_output=True)
    with (out / "truth.csv").open(newline="", encoding="utf-8") as file:
        return [_sent(row, images, out) for row in csv.DictReader(file)]


def _sent(row: dict[str, str], images: Path, out: Path) -> Sent:
    header = dcmread(out / row["file"], specific_tags=list(_UIDS), stop_before_pixels=True)
    return Sent(
        file=out / row["file"],
        set_name=row["dataset"],
        sop_instance_uid=str(header.SOPInstanceUID),
        study_instance_uid=str(header.StudyInstanceUID),
        label=row["label"],
        mask=images / row["mask"] if row["mask"] else None,
    )
