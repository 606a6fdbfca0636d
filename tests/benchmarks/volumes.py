"""Phantom CT and MR series through the harvest, and the slides' tables of them.

python -m tests.benchmarks.volumes OUT --patients 60 -- --depth 10 --width 8 --shrink 4

Writes series of phantoms as DICOM files, harvests them as a node does, holds the labels that the
harvest found against the truth, says what became of real CT and MR files (those that pydicom ships,
or of the folder ``--real``), writes volumes with masks of liver and lesion, and lets ``train
volumes table`` do the rest; what follows ``--`` is handed to it.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import data
from pydicom.errors import InvalidDicomError

from dicom_node.config import STORE, HarvestSettings
from dicom_node.harvest import Harvester, open_harvester
from dicom_node.harvest.volumes.storing import MODALITIES
from dicom_node.phantom.body import TISSUES, body
from dicom_node.phantom.series import PhantomSeries, plan, write_series
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Instance
from dicom_node.store.volumes import SHAPE
from tests.support.frames import instance_of

#: Of the abdomen, mm: along the body, to the sides, front to back.
_BOX: Final = ((-330, -30), (-112, 112), (-185, 185))
#: Brightness of `TISSUES` in the masked volumes, and the masks' values.
_GREY: Final = (0, 100, 140, 250, 130, 125, 20, 150, 165, 140, 130, 150)
_LABELS: Final = {"liver": 1, "lesion": 2}


def harvest(folder: Path, patients: int) -> Path:
    """Fill a store with the series of as many patients; print what it knows of them."""
    settings = HarvestSettings(modalities=("CT", "MR"), head_volumes="keep")
    fates: Counter[str] = Counter()
    right: Counter[str] = Counter()
    started = time.monotonic()
    with (
        PixelSandbox(memory_mib=768, timeout_s=120) as sandbox,
        open_harvester(settings, folder, sandbox) as harvester,
    ):
        for spec in plan(seed=5, patients=patients):
            series = write_series(folder / "files", spec)
            instances = [instance_of(path) for path in series.paths]
            for _, counts in harvester.volumes.harvest(instances):
                fates.update(counts)
            right.update(_right(series, harvester))
            shutil.rmtree(folder / "files")
    print(f"{patients} series in {time.monotonic() - started:.0f} s: {dict(fates)}")  # noqa: T201
    print(f"labels that are right: {dict(right)}")  # noqa: T201
    return folder / STORE


def _right(series: PhantomSeries, harvester: Harvester) -> dict[str, bool]:
    token = harvester.key.token("series", series.series_instance_uid)
    found = harvester.store.volumes.of_series(token)
    if found is None:
        return {}
    labels, spec = found.labels, series.spec
    return {
        "sequence": labels.sequence == spec.sequence,
        "plane": labels.plane == spec.plane,
        "contrast": labels.contrast == spec.contrast,
        "regions": labels.regions == series.regions,
        "spacing": bool(np.isclose(labels.slice_spacing_mm, series.spacing_mm, rtol=1e-3)),
    }


def harvest_real(folder: Path, files: Path) -> None:
    """Try the CT and MR files of a folder into a store of their own; print what became of them."""
    settings = HarvestSettings(modalities=("CT", "MR"), head_volumes="keep")
    found = {one.sop_instance_uid: one for one in _instances(files)}
    fates: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    with (
        PixelSandbox(memory_mib=768, timeout_s=120) as sandbox,
        open_harvester(settings, folder, sandbox) as harvester,
    ):
        for one, counts in harvester.volumes.harvest(found.values()):
            modality = MODALITIES[one.sop_class_uid]
            fates[modality, one.series_instance_uid].update(counts)
    for reason in sorted({name for counts in fates.values() for name in counts}):
        of_it = {series: counts[reason] for series, counts in fates.items() if counts[reason]}
        series = Counter(modality for modality, _ in of_it)
        print(f"real: {reason}: {sum(of_it.values())} files of series {dict(series)}")  # noqa: T201


def _instances(folder: Path) -> Iterator[Instance]:
    """Yield what can be read of the CT and MR files under a folder."""
    for path in sorted(folder.rglob("*")):
        try:
            one = instance_of(path) if path.is_file() else None
        except (InvalidDicomError, AttributeError, OSError):
            continue
        if one is not None and one.sop_class_uid in MODALITIES:
            yield one


def mask(folder: Path, patients: int) -> Path:
    """Write volumes of abdomens with masks of liver (1) and lesion (2)."""
    folder.mkdir(parents=True, exist_ok=True)
    z, y, x = (np.linspace(*side, count) for side, count in zip(_BOX, SHAPE, strict=True))
    for patient in range(patients):
        rng = np.random.default_rng((7, patient))
        tissues = body(rng).tissue_at(x[None, None, :], y[None, :, None], z[:, None, None])
        grey = np.array(_GREY, np.float64)[tissues] + rng.normal(0, 12, SHAPE)
        labels = np.array([_LABELS.get(name, 0) for name in TISSUES], np.uint8)[tissues]
        volume = np.clip(grey, 0, 255).astype(np.uint8)
        np.savez_compressed(folder / f"P{patient:04d}.npz", volume=volume, mask=labels)
    return folder


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="what follows -- is of train volumes table"
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--masks", type=int, default=40)
    parser.add_argument("--real", type=Path, default=Path(data.__file__).parent)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:end])
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    store = out / STORE
    if not store.is_dir():
        harvest(out, given.patients)
        harvest_real(out / "real", given.real)
    masks = mask(out / "masks", given.masks) if not (out / "masks").is_dir() else out / "masks"
    what = f"{given.patients} phantom series, and {given.masks} phantom abdomens with masks."
    named = ["--store", store, "--masks", masks, "--out", out / "tables", "--what", what]
    command = [sys.executable, "-m", "training", "volumes", "table", *map(str, named)]
    started = time.monotonic()
    done = subprocess.run([*command, *words[end + 1 :]], check=False)
    print(f"tables: {time.monotonic() - started:.0f} s")  # noqa: T201
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
