"""Phantom series, and the few real ones that pydicom ships, into a store."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, load_tables, open_harvester
from dicom_node.harvest.erasing import erasing_patient
from dicom_node.harvest.vocabulary import vocabulary
from dicom_node.phantom.series import PhantomSeries, SeriesSpec, write_series
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Instance
from dicom_node.store import StoredVolume, audit
from tests.support.frames import instance_of
from tests.support.slices import changed

WANTED = HarvestSettings(modalities=("CT", "MR"))
SPEC = SeriesSpec(seed=1, patient=1, slices=12, rows=32, columns=32, contrast=True)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> PhantomSeries:
    return write_series(tmp_path_factory.mktemp("chest"), SPEC)


@pytest.fixture
def files(chest: PhantomSeries, tmp_path: Path) -> list[Path]:
    """Return a copy of the series that may be changed."""
    return [Path(shutil.copy(path, tmp_path)) for path in chest.paths]


@pytest.fixture
def opened(tmp_path: Path, sandbox: PixelSandbox) -> Callable[..., Any]:
    def open_with(settings: HarvestSettings = WANTED) -> Any:
        return open_harvester(settings, tmp_path / "data", sandbox)

    return open_with


def received(path: Path) -> Instance:
    """Return the record of a file, with the digest of its bytes."""
    return replace(instance_of(path), sha256=sha256(path.read_bytes()).hexdigest())


def fates_of(harvester: Harvester, instances: Iterable[Instance]) -> Counter[str]:
    """Return what became of slices."""
    fates: Counter[str] = Counter()
    for _, counts in harvester.volumes.harvest(instances):
        fates.update(counts)
    return fates


def harvested(harvester: Harvester, paths: Iterable[Path]) -> Counter[str]:
    """Return what became of files."""
    return fates_of(harvester, map(received, paths))


def volume(harvester: Harvester, series: PhantomSeries) -> StoredVolume:
    found = harvester.store.volumes.of_series(
        harvester.key.token("series", series.series_instance_uid)
    )
    assert found is not None
    return found


def test_a_series_becomes_a_volume_with_the_labels_of_its_header(
    chest: PhantomSeries, opened: Callable[..., Any], tmp_path: Path
) -> None:
    with opened() as harvester:
        assert harvested(harvester, chest.paths) == {"slices stored": 12}
        stored = volume(harvester, chest)
        labels = stored.labels
        assert (labels.sequence, labels.plane, labels.contrast) == ("CT", "AX", True)
        assert (labels.regions, stored.number_of_slices) == (chest.regions, 12)
        # by position, not by Slice Thickness, which says 0.7 of it
        assert labels.slice_spacing_mm == pytest.approx(chest.spacing_mm, rel=1e-4)
        voxels = harvester.store.volumes.voxels(stored.volume_id)
        # feet to head: a chest's first slices lie below its lungs
        lung = (voxels[:, 90:105, 55:70] < 10).mean(axis=(1, 2))
        assert lung[30] > 0.9 > lung[0]
        # again: nothing is decoded
        assert harvested(harvester, chest.paths) == {"already stored": 12}
    assert audit(tmp_path / "data" / "store", vocabulary(load_tables(WANTED))) == []
    stored_bytes = b"".join(
        path.read_bytes() for path in (tmp_path / "data" / "store").rglob("*") if path.is_file()
    )
    for secret in (chest.patient_id, chest.series_instance_uid, "PHANTOM", "WITH CONTRAST"):
        assert secret.encode() not in stored_bytes


def test_a_series_that_has_grown_takes_the_place_of_what_it_was(
    chest: PhantomSeries, opened: Callable[..., Any], tmp_path: Path
) -> None:
    with opened() as harvester:
        assert harvested(harvester, chest.paths[:9]) == {"slices stored": 9}
        before = volume(harvester, chest)
        assert harvested(harvester, chest.paths) == {"slices stored": 12}
        assert len(harvester.store.volumes.all()) == 1
        assert volume(harvester, chest).volume_id != before.volume_id
    assert audit(tmp_path / "data" / "store") == []


def test_labels_follow_the_rules_without_a_new_volume(
    files: list[Path], chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    with opened() as harvester:
        instances = [received(path) for path in files]
        fates_of(harvester, instances)
        before = volume(harvester, chest)
        for path in files:  # as if another rule spoke: the digests stay
            changed(path, ContrastBolusAgent="NONE")
        assert fates_of(harvester, instances) == {"already stored": 12}
        after = volume(harvester, chest)
        assert (before.labels.contrast, after.labels.contrast) == (True, False)
        assert after.volume_id == before.volume_id


def test_only_the_modalities_that_are_named_are_taken(
    chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    for modalities in (("US",), ("MR",), ()):
        with opened(HarvestSettings(modalities=modalities)) as harvester:
            assert harvested(harvester, chest.paths) == {}
    with opened(HarvestSettings(modalities=("CT",))) as harvester:
        picture = instance_of(Path(str(get_testdata_file("examples_palette.dcm"))))
        assert harvester.harvest(picture)["modality not wanted"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"BodyPartExamined": "HEAD"},
        {"BodyPartExamined": None},
        {"BodyPartExamined": "NECK"},
        {"SeriesDescription": "CT HEAD"},
        {"StudyDescription": "CT BRAIN"},
    ],
)
def test_what_may_show_a_face_is_refused_unless_the_site_wants_it(
    fields: dict[str, str | None], files: list[Path], opened: Callable[..., Any]
) -> None:
    for path in files:
        changed(path, **fields)
    with opened() as harvester:
        assert harvested(harvester, files) == {"may show a face": 12}
        assert harvester.store.volumes.all() == []
    with opened(WANTED.model_copy(update={"head_volumes": "keep"})) as harvester:
        assert harvested(harvester, files) == {"slices stored": 12}


def test_one_slice_of_a_head_or_a_copy_of_one_refuses_a_series(
    files: list[Path], tmp_path: Path, opened: Callable[..., Any]
) -> None:
    double = Path(shutil.copy(files[4], tmp_path / "double.dcm"))
    changed(double, SOPInstanceUID=generate_uid(), SeriesDescription="HEAD")
    with opened() as harvester:
        assert harvested(harvester, [*files, double]) == {"may show a face": 13}
        changed(files[11], BodyPartExamined="HEAD")
        assert harvested(harvester, files) == {"may show a face": 12}
        assert harvester.store.volumes.all() == []


def test_a_series_whose_slices_lie_too_far_apart_costs_no_other_of_its_study(
    files: list[Path], tmp_path: Path, opened: Any
) -> None:
    other = write_series(tmp_path, SeriesSpec(seed=1, patient=1, part="PELVIS", slices=8, rows=32))
    for number, path in enumerate(files):
        changed(path, ImagePositionPatient=[0, 0, 1200 * number - 8000])
    with opened() as harvester:
        assert harvested(harvester, [*files, *other.paths]) == {
            "no geometry": 12,
            "slices stored": 8,
        }


def test_a_series_that_the_store_refuses_costs_no_other_of_its_study(
    files: list[Path], tmp_path: Path, opened: Any
) -> None:
    other = write_series(tmp_path, SeriesSpec(seed=1, patient=1, part="PELVIS", slices=8, rows=32))
    with opened() as harvester:
        harvested(harvester, files)
        connection = sqlite3.connect(tmp_path / "data" / "store" / "catalogue.db")
        connection.execute("UPDATE volumes SET plane = 'OBL'")  # as of another version
        connection.commit()
        connection.close()
        fates = harvested(harvester, [*files, *other.paths])
        assert fates == {"refused": 12, "slices stored": 8}
        assert harvested(harvester, files) == {"slices stored": 12}


def test_a_series_uid_of_another_patient_is_refused_and_the_first_stays(
    files: list[Path], chest: PhantomSeries, tmp_path: Path, opened: Any
) -> None:
    other = write_series(tmp_path / "other", replace(SPEC, patient=2))
    for path in other.paths:
        changed(path, SeriesInstanceUID=chest.series_instance_uid)
    with opened() as harvester:
        assert harvested(harvester, files) == {"slices stored": 12}
        first = volume(harvester, chest)
        assert harvested(harvester, other.paths) == {"mixed series": 12}
        for path in other.paths:
            changed(path, BodyPartExamined="HEAD")
        assert harvested(harvester, other.paths) == {"may show a face": 12}
        assert harvested(harvester, files) == {"already stored": 12}
        assert harvester.store.volumes.all() == [first]


HEAD = {"BodyPartExamined": "HEAD", "SeriesDescription": "HEAD", "StudyDescription": "HEAD"}


@pytest.mark.parametrize(
    ("late", "fields", "fate"),
    [
        (range(12), HEAD, "may show a face"),  # corrected, and sent again
        (range(9, 12), {"BodyPartExamined": "HEAD"}, "may show a face"),
        (range(12), {"BurnedInAnnotation": "YES"}, "burned in annotation"),
        (range(9, 12), {"PixelSpacing": [3, 3]}, "mixed series"),
        (range(4, 5), {"BurnedInAnnotation": "YES"}, "missing slices"),
        (range(9, 12), {"ImagePositionPatient": [0, 0, 900]}, "missing slices"),
    ],
)
def test_what_was_stored_of_a_series_that_is_refused_later_leaves_the_store(
    late: Iterable[int],
    fields: dict[str, Any],
    fate: str,
    files: list[Path],
    tmp_path: Path,
    opened: Any,
) -> None:
    with opened() as harvester:
        assert harvested(harvester, files[:9]) == {"slices stored": 9}
        for number in late:
            changed(files[number], **fields)
        assert fate in harvested(harvester, files)
        _need_empty(harvester, tmp_path)


def test_heads_leave_the_store_when_the_site_refuses_them(
    files: list[Path], tmp_path: Path, opened: Any
) -> None:
    for path in files:
        changed(path, **HEAD)
    with opened(WANTED.model_copy(update={"head_volumes": "keep"})) as harvester:
        assert harvested(harvester, files) == {"slices stored": 12}
    with opened() as harvester:
        assert harvested(harvester, files) == {"may show a face": 12}
        _need_empty(harvester, tmp_path)


def _need_empty(harvester: Harvester, tmp_path: Path) -> None:
    assert harvester.store.volumes.all() == []
    folder = tmp_path / "data" / "store"
    assert list(folder.rglob("*.png")) == []
    assert audit(folder) == []


def test_missing_slices_cost_the_series(files: list[Path], opened: Callable[..., Any]) -> None:
    with opened() as harvester:
        assert harvested(harvester, files[:4] + files[5:]) == {"missing slices": 11}


def test_localisers_are_left_out_and_the_rest_is_used(
    files: list[Path], opened: Callable[..., Any]
) -> None:
    for path in files[:2]:
        changed(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with opened() as harvester:
        assert harvested(harvester, files) == {"localiser": 2, "slices stored": 10}


def test_an_enhanced_object_is_counted_where_its_modality_is_wanted(
    files: list[Path], opened: Callable[..., Any]
) -> None:
    changed(files[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=40)
    with opened() as harvester:
        assert harvested(harvester, files) == {"enhanced object": 1, "slices stored": 11}
    with opened(HarvestSettings(modalities=("US", "MR"))) as harvester:
        assert harvested(harvester, files) == {}


def test_the_same_slice_twice_counts_once_and_another_in_its_place_is_a_mixture(
    files: list[Path], tmp_path: Path, opened: Callable[..., Any]
) -> None:
    double = Path(shutil.copy(files[4], tmp_path / "double.dcm"))
    changed(double, SOPInstanceUID=generate_uid())
    with opened() as harvester:
        assert harvested(harvester, [*files, double]) == {
            "slices stored": 12,
            "duplicate slice": 1,
        }
        other = np.zeros((32, 32), "<u2").tobytes()
        changed(double, PixelData=other)
        assert harvested(harvester, [*files, double]) == {"mixed series": 13}


def test_two_series_of_one_study_are_two_volumes(
    tmp_path: Path, chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    other = write_series(
        tmp_path, SeriesSpec(seed=1, patient=1, sequence="T2-SE", part="PELVIS", slices=10, rows=32)
    )
    with opened() as harvester:
        assert harvested(harvester, chest.paths + other.paths) == {"slices stored": 22}
        assert volume(harvester, other).labels.sequence == "T2-SE"


def test_mr_without_times_is_stored_with_an_unknown_sequence(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    series = write_series(
        tmp_path, SeriesSpec(seed=1, patient=2, sequence="T1-SE", part="PELVIS", slices=9, rows=32)
    )
    absent = {"EchoTime": None, "RepetitionTime": None, "SeriesDescription": "T1"}
    for path in series.paths:
        changed(path, **absent, ScanningSequence="RM")
    with opened() as harvester:
        assert harvested(harvester, series.paths) == {"slices stored": 9}
        assert volume(harvester, series).labels.sequence is None


def test_what_cannot_be_read_or_decoded_costs_its_series_and_no_other(
    files: list[Path], tmp_path: Path, opened: Callable[..., Any]
) -> None:
    slices = [received(path) for path in files]
    header = dcmread(files[6])
    header.PixelData = header.PixelData[:100]
    header.save_as(files[6])
    good = write_series(tmp_path / "good", SeriesSpec(seed=2, patient=3, slices=8, rows=32))
    with opened() as harvester:
        instances = [*slices, *map(received, good.paths)]
        files[0].write_bytes(b"no DICOM")
        fates = dict(harvester.volumes.harvest(instances))
        counts = Counter(fate for one in fates.values() for fate in one)
    assert counts == {"files lost": 1, "undecodable": 11, "slices stored": 8}


@pytest.mark.parametrize("lost", [range(12), range(4), range(5, 6), range(1, 12)])
def test_a_volume_stays_as_it_is_when_files_of_its_series_are_lost(
    lost: range, files: list[Path], chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    instances = [received(path) for path in files]
    with opened() as harvester:
        assert fates_of(harvester, instances[:11]) == {"slices stored": 11}
        before = volume(harvester, chest)
        for number in lost:
            files[number].unlink()
        assert fates_of(harvester, instances) == {"files lost": 12}
        assert volume(harvester, chest) == before
        harvester.store.volumes.voxels(before.volume_id)


def test_a_picture_that_the_disk_lost_is_written_again(
    chest: PhantomSeries, tmp_path: Path, opened: Callable[..., Any]
) -> None:
    with opened() as harvester:
        harvested(harvester, chest.paths)
        before = volume(harvester, chest)
        next((tmp_path / "data" / "store" / "volumes").glob("*/*.png")).unlink()
        assert harvested(harvester, chest.paths) == {"slices stored": 12}
        assert volume(harvester, chest) == before
        harvester.store.volumes.voxels(before.volume_id)


def test_files_that_are_lost_before_anything_is_stored_cost_themselves(
    files: list[Path], opened: Callable[..., Any]
) -> None:
    instances = [received(path) for path in files]
    files[0].unlink()
    with opened() as harvester:
        assert fates_of(harvester, instances) == {"files lost": 1, "slices stored": 11}


def test_a_series_whose_files_come_again_is_read_as_ever(
    files: list[Path], tmp_path: Path, opened: Callable[..., Any]
) -> None:
    instances = [received(path) for path in files]
    with opened() as harvester:
        assert fates_of(harvester, instances[:9]) == {"slices stored": 9}
        files[3].rename(tmp_path / "away")
        assert fates_of(harvester, instances) == {"files lost": 12}
        (tmp_path / "away").rename(files[3])
        assert fates_of(harvester, instances) == {"slices stored": 12}


@pytest.mark.parametrize(
    "fields",
    [
        {"BodyPartExamined": "HEAD"},
        {"BurnedInAnnotation": "YES"},
        {"PatientID": "4711"},  # whose erasure is to find it
    ],
)
def test_what_the_headers_that_are_left_say_takes_a_volume_out_all_the_same(
    fields: dict[str, str], files: list[Path], tmp_path: Path, opened: Callable[..., Any]
) -> None:
    instances = [received(path) for path in files]
    with opened() as harvester:
        assert fates_of(harvester, instances) == {"slices stored": 12}
        for path in files[1:]:
            path.unlink()
        changed(files[0], **fields)
        fates_of(harvester, instances)
        _need_empty(harvester, tmp_path)


def test_text_in_a_slice_that_never_was_in_the_volume_takes_nothing_out(
    files: list[Path], chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    changed(files[0], BurnedInAnnotation="YES")
    instances = [received(path) for path in files]
    with opened() as harvester:
        assert fates_of(harvester, instances) == {"burned in annotation": 1, "slices stored": 11}
        before = volume(harvester, chest)
        files[5].unlink()
        assert fates_of(harvester, instances) == {"burned in annotation": 1, "files lost": 11}
        assert volume(harvester, chest) == before


def test_heads_whose_files_are_lost_leave_the_store_when_the_site_refuses_them(
    files: list[Path], tmp_path: Path, opened: Any
) -> None:
    for path in files:
        changed(path, **HEAD)
    instances = [received(path) for path in files]
    with opened(WANTED.model_copy(update={"head_volumes": "keep"})) as harvester:
        assert fates_of(harvester, instances) == {"slices stored": 12}
    for path in files:
        path.unlink()
    with opened() as harvester:
        assert fates_of(harvester, instances) == {"files lost": 12}
        _need_empty(harvester, tmp_path)


@pytest.mark.parametrize(("says_text", "left"), [(False, 1), (True, 0)])
def test_a_volume_stays_while_what_came_later_cannot_be_decoded(
    says_text: bool, left: int, files: list[Path], opened: Callable[..., Any]
) -> None:
    with opened() as harvester:
        assert harvested(harvester, files[:11]) == {"slices stored": 11}
        header = dcmread(files[11])
        header.PixelData = header.PixelData[:100]
        header.save_as(files[11])
        if says_text:
            changed(files[0], BurnedInAnnotation="YES")
        assert harvested(harvester, files)["undecodable"] == 12 - says_text
        assert len(harvester.store.volumes.all()) == left


def test_a_patient_who_is_erased_leaves_no_volume_and_comes_in_no_more(
    chest: PhantomSeries, tmp_path: Path, opened: Callable[..., Any]
) -> None:
    data = tmp_path / "data"
    other = write_series(tmp_path / "other", SeriesSpec(seed=2, patient=3, slices=8, rows=32))
    with opened() as harvester:
        harvested(harvester, chest.paths + other.paths)
        with erasing_patient(chest.patient_id, data=data) as erasure:
            assert erasure.preview().volumes == 1
            erased, notes = erasure.run(refuse=True)
        assert (erased.volumes, erased.files, erased.studies, notes) == (1, 1, 1, 1)
        [left] = harvester.store.volumes.all()
        assert left.series == volume(harvester, other).series
        assert harvested(harvester, chest.paths) == {"patient refused": 12}
        token = harvester.key.token("patient", chest.patient_id).encode()
    assert token not in (data / "store" / "catalogue.db").read_bytes()
    assert audit(data / "store") == []


def test_the_same_volume_of_another_series_is_stored_once(
    files: list[Path], chest: PhantomSeries, opened: Callable[..., Any]
) -> None:
    with opened() as harvester:
        harvested(harvester, chest.paths)
        uid = generate_uid()
        for path in files:
            changed(path, SeriesInstanceUID=uid, SOPInstanceUID=generate_uid(), PatientID="4711")
        again = harvested(harvester, files)
        assert again == {"duplicate": 12}
        assert len(harvester.store.volumes.all()) == 1


def test_the_real_series_that_pydicom_ships_say_why_they_are_no_volumes(
    opened: Callable[..., Any],
) -> None:
    folder = Path(str(get_testdata_file("DICOMDIR"))).parent
    slices = sorted(folder.glob("[0-9]*/*/*"))
    with opened(WANTED.model_copy(update={"head_volumes": "keep"})) as harvester:
        fates = harvested(harvester, slices)
    # scouts, and pieces of a few slices: none is whole
    assert sum(fates.values()) >= 20
    assert set(fates) <= {"too few slices", "localiser", "missing slices", "mixed series"}
