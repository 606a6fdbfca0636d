from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, open_harvester, relabel_store
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Geometry, Instance
from dicom_node.store import Source, Verdict, audit
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        yield sandbox


@pytest.fixture
def harvester(tmp_path: Path, sandbox: PixelSandbox) -> Iterator[Harvester]:
    with open_harvester(HarvestSettings(), tmp_path / "data", sandbox) as harvester:
        yield harvester


def _image(path: Path, seed: int = 0, **fields: object) -> Instance:
    regions = [region_item(Box(left=0, top=0, right=64, bottom=64))]
    pixels = speckle(64, 64, seed=seed)[None]
    data_set = ultrasound(pixels, SequenceOfUltrasoundRegions=regions, **fields)
    return instance_of(saved(data_set, path))


def _kidney() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "64033007", "SCT", "Kidney"
    return item


def test_second_opinions_are_harvested_and_their_words_stay_private(
    harvester: Harvester, tmp_path: Path
) -> None:
    harvester.harvest(
        _image(
            tmp_path / "a.dcm",
            StudyDescription="US THORACENTESIS THERAPEUTIC (LEFT)",
            ImageType=["ORIGINAL", "PRIMARY", "RENAL"],
            ProcessingFunction="DR ROE SPECIAL",
            ProcedureCodeSequence=[_kidney()],
            PerformedProcedureStepDescription="US Thoracentesis therapeutic (left)",
        )
    )
    assert harvester.store.evidence.verdicts() == {
        (Source.IMAGE_TYPE, Verdict.CONFLICTS): 1,
        (Source.PROCESSING_FUNCTION, Verdict.NOT_MAPPED): 1,
        (Source.PROCEDURE_CODE_SEQUENCE, Verdict.NOT_MAPPED): 1,
        (Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION, Verdict.SAME_WORDS): 1,
    }
    (frame,) = harvester.store.frames()
    assert frame.groups == {"chest", "drainage"}
    assert harvester.store.evidence.conflicting() == {frame.instance}
    seen = {(s.term, s.meaning, s.is_mapped) for s in harvester.notes.terms(harvester.label_map)}
    assert ("DR ROE SPECIAL", "", False) in seen
    assert ("SCT:64033007", "KIDNEY", False) in seen
    assert ("RENAL", "", True) in seen
    folder = tmp_path / "data" / "store"
    assert audit(folder) == []
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for words in (b"ROE", b"RENAL", b"64033007", b"THORACENTESIS"):
        assert words not in content


def test_a_decision_relabels_what_is_stored_and_what_comes_later(
    harvester: Harvester, tmp_path: Path
) -> None:
    harvester.harvest(_image(tmp_path / "a.dcm", StudyDescription="Niere  links"))
    frames = tmp_path / "data" / "store" / "frames"
    before = {path: path.stat().st_ctime_ns for path in frames.rglob("*")}
    kidney = frozenset({"abdomen", "kidney"})
    harvester.notes.decide(Source.STUDY_DESCRIPTION, "niere links", frozenset({"liver"}))
    harvester.notes.decide(Source.STUDY_DESCRIPTION, "niere links", kidney)
    count = relabel_store(HarvestSettings(), data=tmp_path / "data")
    assert (count.groups, count.probes) == (1, 0)
    assert {path: path.stat().st_ctime_ns for path in frames.rglob("*")} == before
    again = relabel_store(HarvestSettings(), data=tmp_path / "data")
    assert (again.groups, again.probes) == (0, 0)
    # the harvester that was open all the time knows it too
    late = _image(tmp_path / "b.dcm", seed=1, StudyDescription="NIERE LINKS")
    harvester.harvest(late)
    assert [frame.groups for frame in harvester.store.frames()] == [kidney, kidney]
    assert harvester.labels(late).groups == kidney
    assert harvester.notes.descriptions(harvester.label_map)[0].is_mapped


def test_a_probe_that_the_site_names_is_put_right_in_the_store(
    harvester: Harvester, tmp_path: Path
) -> None:
    scanner = {"Manufacturer": "SAMSUNG MEDISON", "TransducerData": ["LA3-16A", "4711"]}
    harvester.harvest(_image(tmp_path / "a.dcm", **scanner))
    assert harvester.store.frames()[0].geometry is Geometry.UNKNOWN
    assert [seen.rule for seen in harvester.notes.transducers()] == ["none"]
    site = tmp_path / "probes.csv"
    site.write_text("transducer,geometry\nLA3-16A,linear\n")
    settings = HarvestSettings(site_transducers=site)
    assert relabel_store(settings, data=tmp_path / "data").probes == 1
    (frame,) = harvester.store.frames()
    assert (frame.probe, frame.geometry) == ("LA3-16A", Geometry.LINEAR)
    assert audit(tmp_path / "data" / "store") == []


def test_the_sites_probes_are_known_while_harvesting(tmp_path: Path, sandbox: PixelSandbox) -> None:
    site = tmp_path / "probes.csv"
    site.write_text("transducer,geometry\nLA3-16A,linear\n")
    settings = HarvestSettings(site_transducers=site)
    with open_harvester(settings, tmp_path / "data", sandbox) as harvester:
        harvester.harvest(_image(tmp_path / "a.dcm", TransducerData=["LA3-16A", "4711"]))
        (frame,) = harvester.store.frames()
    assert (frame.probe, frame.geometry) == ("LA3-16A", Geometry.LINEAR)
