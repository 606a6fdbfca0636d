import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from dicom_node.config import HarvestSettings
from dicom_node.errors import ConfigError
from dicom_node.harvest import Harvester, import_labels, open_harvester
from dicom_node.harvest.erasing import accept_patient, erasing_patient
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Instance
from dicom_node.store import Source, audit
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound
from training import pack
from training.config import Size

REGION = Box(left=0, top=0, right=64, bottom=64)
SIZE = Size(height=64, width=64)
#: What makes a file or a row come or go: a kill is tried at each of them.
EVENTS = {"os.remove", "os.rmdir", "os.scandir", "os.listdir", "shutil.rmtree"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def harvester(data: Path, sandbox: PixelSandbox) -> Iterator[Harvester]:
    with open_harvester(HarvestSettings(), data, sandbox) as harvester:
        yield harvester


def _image(path: Path, patient: str | None, seed: int, *, has_region: bool = True) -> Instance:
    return instance_of(
        saved(
            ultrasound(
                np.stack([speckle(64, 64, seed=seed), speckle(64, 64, seed=seed + 1)]),
                SequenceOfUltrasoundRegions=[region_item(REGION)] if has_region else None,
                PatientID=patient,
                StudyDescription=f"US LIVER OF {path.stem}",
                PerformedProcedureStepDescription=f"SCAN OF {path.stem}",
                FrameTime=500,
            ),
            path,
        )
    )


def _secrets(harvester: Harvester, instances: list[Instance], patient: str) -> set[bytes]:
    """Return all that may not be left: UIDs, pseudonyms, words, pictures."""
    key = harvester.key
    secrets = {key.token("patient", patient).encode(), patient.encode()}
    for instance in instances:
        uids = {
            "study": instance.study_instance_uid,
            "series": instance.series_instance_uid,
            "instance": instance.sop_instance_uid,
        }
        secrets |= {uid.encode() for uid in uids.values()}
        secrets |= {key.token(kind, uid).encode() for kind, uid in uids.items()}  # type: ignore[arg-type]
        for text in ("US LIVER OF", "SCAN OF"):
            words = f"{text} {instance.path.stem}".upper()
            secrets |= {words.encode(), key.token("description", words).encode()}
        for one in harvester.store.clip(key.token("instance", instance.sop_instance_uid)):
            secrets.add(one.frame_id.encode())
    return secrets


def _bytes_under(folder: Path) -> bytes:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def test_nothing_under_the_data_folder_still_knows_an_erased_patient(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    # the second one has no frame in the store, and notes all the same
    hers = [
        _image(tmp_path / "hers.dcm", "MRN-1", 1),
        _image(tmp_path / "hers too.dcm", "MRN-1", 5, has_region=False),
    ]
    his = _image(tmp_path / "his.dcm", "MRN-2", 9)
    for instance in (*hers, his):
        harvester.harvest(instance)
    secrets = _secrets(harvester, hers, "MRN-1")
    pictures = {path.read_bytes() for path in (data / "store" / "frames").rglob("*.png")}
    pack.ensure(data / "store", None, SIZE)
    with erasing_patient("MRN-1", data=data) as erasure:
        erased, notes = erasure.run([data / "packs"], refuse=True)
    assert (erased.frames, erased.packs, erased.instances) == (2, 1, 1)
    assert notes == 2 + 2 + 2 + 2  # descriptions, steps, transducers, whose studies
    after = _bytes_under(data)
    assert not [secret for secret in secrets if secret in after]
    assert sum(picture in after for picture in pictures) == 2
    assert his.study_instance_uid.encode() in after
    assert audit(data / "store") == []


def test_what_readers_said_of_an_erased_patient_goes_with_him(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    hers, his = (_image(tmp_path / f"{n}.dcm", f"MRN-{n}", 4 * n) for n in (1, 2))
    table = tmp_path / "labels.csv"
    rows = "".join(f"{one.sop_instance_uid},1,3,,DR READER\n" for one in (hers, his))
    table.write_text(f"sop_instance_uid,frame,quality,mask,reader\n{rows}")
    for instance in (hers, his):
        harvester.harvest(instance)
    assert import_labels(table, data=data).faults == ()
    instances = [harvester.key.token("instance", one.sop_instance_uid) for one in (hers, his)]
    [said, _] = [harvester.store.readers.of(instance) for instance in instances]
    secrets = _secrets(harvester, [hers], "MRN-1") | {said[0].provenance.object.encode()}
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run()
    after = _bytes_under(data)
    assert not [secret for secret in secrets if secret in after]
    assert [len(harvester.store.readers.of(instance)) for instance in instances] == [0, 1]
    assert his.sop_instance_uid.encode() in after
    assert audit(data / "store") == []


def test_what_the_sources_said_of_an_erased_patient_goes_and_what_they_said_of_others_stays(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    hers, his = _image(tmp_path / "hers.dcm", "MRN-1", 1), _image(tmp_path / "his.dcm", "MRN-2", 9)
    of = {}
    for instance in (hers, his):
        harvester.harvest(instance)
        of[instance.path.stem] = harvester.key.token("instance", instance.sop_instance_uid)
    kept = harvester.store.evidence.of(of["his"])
    assert len(harvester.store.evidence.of(of["hers"])) == len(kept) == 3
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run()
    assert harvester.store.evidence.of(of["hers"]) == ()
    assert harvester.store.evidence.of(of["his"]) == kept


def test_a_decision_on_words_goes_with_the_last_study_that_had_them(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    for name, patient, seed in (("hers", "MRN-1", 1), ("his", "MRN-2", 9)):
        harvester.harvest(_image(tmp_path / f"{name}.dcm", patient, seed))
    liver, kidney = frozenset({"liver"}), frozenset({"kidney"})
    description, step = Source.STUDY_DESCRIPTION, Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION
    harvester.notes.decide(description, "us liver of hers", liver)
    harvester.notes.decide(step, "scan of his", kidney)
    harvester.notes.decide(description, "never met", liver)
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run()
    left = harvester.notes.decisions()
    assert left == {(step, "SCAN OF HIS"): kidney, (description, "NEVER MET"): liver}
    assert b"LIVER OF HERS" not in _bytes_under(data)


def test_a_refused_patient_is_not_taken_in_again_and_others_are(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    hers = _image(tmp_path / "hers.dcm", "MRN-1", 1)
    harvester.harvest(hers)
    with erasing_patient(" MRN-1 ", data=data) as erasure:
        erasure.run(refuse=True)
    before = _bytes_under(data)
    assert harvester.harvest(hers) == {"frames stored": 0, "patient refused": 1}
    assert _bytes_under(data) == before
    assert harvester.harvest(_image(tmp_path / "his.dcm", "MRN-2", 9))["frames stored"] == 2


def test_a_refusal_can_be_taken_back(harvester: Harvester, data: Path, tmp_path: Path) -> None:
    hers, his = _image(tmp_path / "hers.dcm", "MRN-1", 1), _image(tmp_path / "his.dcm", "MRN-2", 9)
    for patient in ("MRN-1", "MRN-2"):
        with erasing_patient(patient, data=data) as erasure:
            erasure.run(refuse=True)
    assert accept_patient(" MRN-1", data=data)
    assert not accept_patient("MRN-1", data=data)
    assert harvester.harvest(hers) == {"frames stored": 2}
    assert harvester.harvest(his) == {"frames stored": 0, "patient refused": 1}


def test_without_refusal_an_erased_patient_may_come_again(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    hers = _image(tmp_path / "hers.dcm", "MRN-1", 1)
    harvester.harvest(hers)
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run()
    assert harvester.harvest(hers) == {"frames stored": 2}


def test_a_study_without_patient_id_is_erased_by_its_uid(
    harvester: Harvester, data: Path, tmp_path: Path
) -> None:
    instance = _image(tmp_path / "a.dcm", None, 1)
    harvester.harvest(instance)
    with erasing_patient(instance.study_instance_uid, data=data) as erasure:
        assert erasure.run()[0].frames == 2
    assert harvester.store.frames() == []


def test_a_lost_key_is_no_reason_to_find_nobody(harvester: Harvester, data: Path) -> None:
    (data / "pseudonym.key").unlink()
    with pytest.raises(ConfigError, match="backup"), erasing_patient("MRN-1", data=data):
        pass
    assert not (data / "pseudonym.key").exists()


def _killed_at(place: int, data: Path) -> bool:
    """Erase in a process that dies at a moment, and return whether it came that far."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    passed = 0

    def pass_by(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == place:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", pass_by)
    sys.addaudithook(lambda event, _: pass_by() if event in EVENTS else None)
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run([data / "packs"], refuse=True)
    os._exit(0)


@pytest.mark.parametrize("place", [15, 23, 27, 34, 39, 40, 47, 54, 57, 62, 65, 68, 70])
def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next(
    sandbox: PixelSandbox, data: Path, tmp_path: Path, place: int
) -> None:
    hers = _image(tmp_path / "hers.dcm", "MRN-1", 1)
    with open_harvester(HarvestSettings(), data, sandbox) as harvester:
        harvester.harvest(hers)
        harvester.harvest(_image(tmp_path / "his.dcm", "MRN-2", 9))
        secrets = _secrets(harvester, [hers], "MRN-1")
    pack.ensure(data / "store", None, SIZE)
    assert _killed_at(place, data)
    with erasing_patient("MRN-1", data=data) as erasure:
        erasure.run([data / "packs"], refuse=True)
    after = _bytes_under(data)
    assert not [secret for secret in secrets if secret in after]
    assert not [path for path in (data / "packs").iterdir() if path.is_dir()]
    with open_harvester(HarvestSettings(), data, sandbox) as harvester:
        assert len(harvester.store.frames()) == 2
        assert harvester.harvest(hers) == {"frames stored": 0, "patient refused": 1}
    assert audit(data / "store") == []
