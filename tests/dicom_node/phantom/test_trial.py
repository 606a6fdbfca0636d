from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, open_harvester
from dicom_node.phantom.trial import PATIENT_ID, write_trial
from dicom_node.pixels.sandbox import PixelSandbox
from tests.support.frames import instance_of

TODAY = date(2026, 1, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trial")
    return [instance.path for instance in write_trial(folder, TODAY)]


@pytest.fixture
def harvester(tmp_path: Path) -> Iterator[Harvester]:
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester,
    ):
        yield harvester


def test_a_trial_says_that_it_shows_no_patient_and_is_of_today(files: list[Path]) -> None:
    for path in files:
        header = dcmread(path, stop_before_pixels=True)
        assert header.QualityControlSubject == "YES"
        assert header.PatientID == PATIENT_ID
        assert header.StudyDate == "20260102"
    assert len({dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in files}) == 1


def test_no_two_trials_are_one_study(files: list[Path], tmp_path: Path) -> None:
    again = write_trial(tmp_path, TODAY)[0].study_instance_uid
    assert again != dcmread(files[0], stop_before_pixels=True).StudyInstanceUID


def test_a_phantom_is_not_harvested_and_nothing_of_it_is_noted(
    files: list[Path], harvester: Harvester, tmp_path: Path
) -> None:
    for path in files:
        assert harvester.harvest(instance_of(path)) == {"frames stored": 0, "phantom": 1}
    assert harvester.store.frames() == []
    assert harvester.notes.study_uids() == frozenset()
    patient = dcmread(files[0])
    patient.QualityControlSubject = "NO"
    patient.save_as(tmp_path / "patient.dcm")
    assert harvester.harvest(instance_of(tmp_path / "patient.dcm")) == {"frames stored": 1}
