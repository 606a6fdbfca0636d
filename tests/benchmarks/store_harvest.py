"""The harvest beside bare decoding: the same frames of the same files, through the same sandbox."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.config import HarvestSettings
from dicom_node.harvest import open_harvester
from dicom_node.harvest.sampling import sampled
from dicom_node.harvest.words import read_words
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Instance
from tests.support.frames import instance_of, region_item, saved, ultrasound

ROWS, COLUMNS = 768, 1024
REGION: Final = Box(left=120, top=80, right=920, bottom=680)
#: Of a cine: two seconds at 30 a second, of which six are kept.
CINE_FRAMES, FRAME_TIME_MS = 60, 33.3
#: For so many stills one cine, so that both loads take about as long.
_STILLS_OF_A_CINE = 8
_SETTINGS = HarvestSettings()

Found = list[float]


def rates(files: Sequence[Instance], data: Path, *, rounds: int) -> tuple[Found, Found]:
    """Return frames/s harvested and frames/s decoded alone, round by round; they take turns."""
    wanted = {one.path: _wanted(one.path) for one in files}
    frames = sum(map(len, wanted.values()))
    seconds: tuple[Found, Found] = ([], [])
    with PixelSandbox(memory_mib=1024, timeout_s=60) as sandbox:
        ways = (
            lambda: _harvested(files, data, sandbox, frames),
            lambda: _decoded(wanted, sandbox),
        )
        for turn in range(rounds + 1):
            for way in (0, 1) if turn % 2 else (1, 0):
                seconds[way].append(ways[way]())
    # in the first round modules are loaded and pages become warm
    ours, bare = ([frames / spent for spent in found[1:]] for found in seconds)
    return ours, bare


def _wanted(path: Path) -> list[int]:
    facts, words = read_facts(path), read_words(path)
    return sampled(
        facts.number_of_frames,
        frame_time_s=words.frame_time_s,
        frames_per_s=_SETTINGS.frames_per_s,
        most_frames=_SETTINGS.max_frames_per_clip,
    )


def _harvested(files: Sequence[Instance], data: Path, sandbox: PixelSandbox, frames: int) -> float:
    """Return the seconds that it takes to harvest all files into a new store."""
    shutil.rmtree(data, ignore_errors=True)
    with open_harvester(_SETTINGS, data, sandbox) as harvester:
        began = time.perf_counter()
        stored = sum(counts["frames stored"] for _, counts in harvester.harvest_all(files))
        spent = time.perf_counter() - began
    if stored != frames:
        raise RuntimeError(f"{stored} of {frames} frames were stored")
    return spent


def _decoded(wanted: dict[Path, list[int]], sandbox: PixelSandbox) -> float:
    began = time.perf_counter()
    for path, numbers in wanted.items():
        for _ in sandbox.frames(path, numbers):
            pass
    return time.perf_counter() - began


def _jpeg_stills(folder: Path, count: int) -> list[Instance]:
    return [_file(folder, number, frames=1, is_jpeg=True) for number in range(count)]


def _native_stills(folder: Path, count: int) -> list[Instance]:
    return [_file(folder, number, frames=1, is_jpeg=False) for number in range(count)]


def _jpeg_cines(folder: Path, count: int) -> list[Instance]:
    cines = max(1, count // _STILLS_OF_A_CINE)
    return [_file(folder, number, frames=CINE_FRAMES, is_jpeg=True) for number in range(cines)]


LOADS: dict[str, Callable[[Path, int], list[Instance]]] = {
    "JPEG cines": _jpeg_cines,
    "JPEG stills": _jpeg_stills,
    "uncompressed RGB stills": _native_stills,
}


def _file(folder: Path, number: int, *, frames: int, is_jpeg: bool) -> Instance:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [_picture(number * 1000 + place) for place in range(frames)]
    study = int(hashlib.sha256(f"{number // 10}".encode()).hexdigest()[:24], 16)
    data_set = ultrasound(
        np.stack(pictures[:1]),
        SequenceOfUltrasoundRegions=[region_item(REGION)],
        StudyInstanceUID=f"2.25.{study}",
        PatientID=f"P{number // 10}",
        Manufacturer="Philips Medical Systems",
        TransducerData=["C5_1", "54629", ""],
        StudyDescription="US BIOPSY LIVER NONFOCAL",
        FrameTime=FRAME_TIME_MS if frames > 1 else None,
        NumberOfFrames=frames if frames > 1 else None,
    )
    if is_jpeg:
        _pack(data_set, pictures)
    return instance_of(saved(data_set, folder / f"{number}.dcm"))


def _pack(data_set: FileDataset, pictures: Sequence[NDArray[np.uint8]]) -> None:
    encoded = []
    for picture in pictures:
        content = BytesIO()
        Image.fromarray(picture).save(content, "JPEG", quality=90)
        encoded.append(content.getvalue())
    data_set.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data_set.PhotometricInterpretation = "YBR_FULL_422"
    data_set.PixelData = encapsulate(encoded)
    data_set["PixelData"].is_undefined_length = True


def _picture(number: int) -> NDArray[np.uint8]:
    """Return a scanner's screen, (R, C, 3): speckle in the region, bars around it."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 160, (8, 12), np.uint8))
    fine = rng.rayleigh(60, (REGION.height // 6, REGION.width // 6)).clip(0, 255).astype(np.uint8)
    size = REGION.width, REGION.height
    tissue, speckle = (
        np.asarray(one.resize(size, Image.Resampling.BICUBIC), np.float32)
        for one in (coarse, Image.fromarray(fine))
    )
    screen = np.zeros((ROWS, COLUMNS), np.uint8)
    screen[:40] = 40
    screen[REGION.slices] = (tissue * speckle / 250).clip(0, 255).astype(np.uint8)
    return np.repeat(screen[..., None], 3, axis=2)
