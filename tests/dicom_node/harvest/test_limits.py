"""What an image may cost that is large, or forged, or full of identities."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom.encaps import encapsulate

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, open_harvester
from dicom_node.harvest.vocabulary import vocabulary
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box
from dicom_node.store import audit
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound

MEBIBYTE = 2**20
REGION = Box(left=100, top=100, right=900, bottom=700)
SMALL = Box(left=0, top=0, right=20, bottom=20)
#: Where a header says who, when and with what: each gets a secret of its own.
PLANTED = {
    "PatientName": "Roe^Richard",
    "PatientID": "MRN0815",
    "OtherPatientIDs": "OTHER4711",
    "PatientBirthDate": "19700131",
    "PatientAddress": "Elm Street 12",
    "AccessionNumber": "ACC99123",
    "StudyID": "STUDY5531",
    "StudyDate": "20210704",
    "SeriesDate": "20210705",
    "ContentDate": "20210706",
    "AcquisitionDateTime": "20210707081500",
    "StudyTime": "081533",
    "ReferringPhysicianName": "Grey^Meredith",
    "OperatorsName": "Yang^Cristina",
    "InstitutionName": "Seattle Grace",
    "StationName": "ROOM7",
    "DeviceSerialNumber": "SN778899",
    "StudyDescription": "US LIVER OF ROE",
    "SeriesDescription": "BY DR BURKE",
    "PerformedProcedureStepDescription": "SCAN OF ROE",
    "ProcessingFunction": "PRESET OF YANG",
    "ImageComments": "sees nobody",
    "TransducerData": ["C5_1", "54629", "PROBE-SN-3321"],
    "ManufacturerModelName": "MODEL-8812",
    "Manufacturer": "Philips of 7 Main Street",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture
def harvester(tmp_path: Path, sandbox: PixelSandbox) -> Iterator[Harvester]:
    with open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester:
        yield harvester


def _large_cine(path: Path) -> Path:
    pixels = np.zeros((134, 768, 1024), np.uint8)
    for number, frame in enumerate(pixels):
        frame[REGION.slices] = np.roll(speckle(600, 800), 7 * number, axis=1)
    regions = [region_item(REGION)]
    return saved(ultrasound(pixels, SequenceOfUltrasoundRegions=regions, FrameTime=100), path)


@pytest.mark.slow
def test_a_cine_of_100_mb_needs_the_memory_of_a_few_frames(
    harvester: Harvester, tmp_path: Path, sandbox: PixelSandbox
) -> None:
    instance = instance_of(_large_cine(tmp_path / "cine.dcm"))
    assert instance.size_bytes > 100 * MEBIBYTE
    tracemalloc.start()
    try:
        count = harvester.harvest(instance)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == {"frames stored": 30}
    assert peak < 16 * MEBIBYTE
    assert sandbox.pid is not None
    assert psutil.Process(sandbox.pid).memory_info().rss < 110 * MEBIBYTE


def test_a_decompression_bomb_costs_itself_alone(harvester: Harvester, tmp_path: Path) -> None:
    # 4 GB of zeros in 200 bytes: nothing in the codestream of RLE states its size
    rle = b"\x01\0\0\0\x40\0\0\0" + b"\0" * 56 + b"\x81\0" * 64
    pixels = np.zeros((1, 20, 20), np.uint8)
    region = [region_item(SMALL)]
    bomb = ultrasound(pixels, SequenceOfUltrasoundRegions=region, Rows=65535, Columns=65535)
    bomb.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    bomb.PixelData = encapsulate([rle])
    instance = instance_of(saved(bomb, tmp_path / "bomb.dcm"))
    assert harvester.harvest(instance) == {"frames stored": 0, "undecodable": 1}
    good = ultrasound(speckle(20, 20)[None], SequenceOfUltrasoundRegions=region)
    assert harvester.harvest(instance_of(saved(good, tmp_path / "good.dcm"))) == {
        "frames stored": 1
    }


def test_no_identity_that_a_header_can_hold_enters_the_store(
    harvester: Harvester, tmp_path: Path
) -> None:
    image = ultrasound(
        speckle(20, 20)[None], SequenceOfUltrasoundRegions=[region_item(SMALL)], **PLANTED
    )
    path = saved(image, tmp_path / "a.dcm")
    assert harvester.harvest(instance_of(path)) == {"frames stored": 1}
    store = tmp_path / "data" / "store"
    content = b"".join(
        str(one.relative_to(store)).encode() + one.read_bytes()
        for one in store.rglob("*")
        if one.is_file()
    ).upper()
    uids = [str(image[name].value) for name in ("SOPInstanceUID", "StudyInstanceUID")]
    secrets = [w for v in PLANTED.values() for w in ([v] if isinstance(v, str) else v[1:])]
    for secret in (*secrets, *uids, str(image.SeriesInstanceUID)):
        assert secret.upper().encode() not in content, secret
    assert audit(store, vocabulary(harvester.tables)) == []
