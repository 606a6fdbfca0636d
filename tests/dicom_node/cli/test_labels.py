import getpass
import json
import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

from dicom_node.cli.labels import app
from dicom_node.config import HarvestSettings
from dicom_node.errors import ConfigError
from dicom_node.harvest import PrivateNotes, ReaderNotes, open_harvester
from dicom_node.harvest.coverage_plot import COLOURS, plotted, plotted_png
from dicom_node.harvest.opening import NOTES
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Geometry
from tests.support.accounts import as_another, shared
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound

SVG = "{http://www.w3.org/2000/svg}"
#: Study Description and Image Type of each study.
STUDIES = [
    ("US ABDO", "RENAL"),
    ("us  abdo", "SMALL PARTS"),
    ("US HEART", "TTE"),
    ("US THYROID BIOPSY", "THYROID"),
]


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    regions = [region_item(Box(left=0, top=0, right=64, bottom=64))]
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(HarvestSettings(), folder / "data", sandbox) as harvester,
    ):
        for number, (description, kind) in enumerate(STUDIES):
            data_set = ultrasound(
                speckle(64, 64, seed=number)[None],
                SequenceOfUltrasoundRegions=regions,
                StudyDescription=description,
                ImageType=["ORIGINAL", "PRIMARY", kind],
                Manufacturer="SAMSUNG MEDISON",
                TransducerData=["LA3-16A", "4711"],
            )
            harvester.harvest(instance_of(saved(data_set, folder / f"{number}.dcm")))
    return folder


def _bars(svg: str) -> dict[str, float]:
    """Return the length of each part of a bar by its title."""
    drawing = ElementTree.fromstring(svg)  # noqa: S314 (drawn by us)
    assert drawing.tag == f"{SVG}svg"
    titled = ((e.findtext(f"{SVG}title"), e) for e in drawing.iter(f"{SVG}rect"))
    return {title: float(e.get("width", "0")) for title, e in titled if title}


def _run(site: Path, *arguments: str) -> str:
    # as `main` does it, errors are the caller's
    words = [*arguments, "--config", str(site / "node.yaml")]
    found = CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=True)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.parametrize(
    ("notes", "table"), [("PrivateNotes", "decision_history"), ("ReaderNotes", "reader_progress")]
)
def test_notes_of_an_earlier_version_are_brought_up_to_date_by_the_command_that_is_named(
    tmp_path: Path, notes: str, table: str
) -> None:
    (tmp_path / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / NOTES
    for kind in (PrivateNotes, ReaderNotes):
        kind(file).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"DROP TABLE {table}")

    def read() -> str:
        with shared(tmp_path) as copy:
            code = f'{notes}(folder / "data" / "{NOTES}").close()'
            return as_another(code, copy, imports=f"from dicom_node.harvest import {notes}")

    said = read()
    assert said.startswith(f"PermanentError {NOTES}: an earlier version of the program made it")
    command = said.partition("run 'dicom-node labels ")[2].partition("'")[0]
    _run(tmp_path, command)
    assert read() == ""


def test_what_is_not_mapped_is_listed_by_frequency_and_a_decision_takes_it_away(
    harvested: Path,
) -> None:
    assert json.loads(_run(harvested, "unmapped", "--json")) == [
        {"study_description": "US ABDO", "studies": 2},
        {"study_description": "US HEART", "studies": 1},
    ]
    before = {
        path: path.stat().st_ctime_ns for path in (harvested / "data/store/frames").rglob("*")
    }
    assert "2 instances have other groups" in _run(harvested, "map", "us abdo", "abdomen; kidney")
    assert "0 instances have other groups" in _run(harvested, "map", "US HEART", "")
    assert {
        path: path.stat().st_ctime_ns for path in (harvested / "data/store/frames").rglob("*")
    } == before
    assert json.loads(_run(harvested, "unmapped", "--json")) == []
    assert "every one is mapped" in _run(harvested, "unmapped")
    agreement = json.loads(_run(harvested, "agreement", "--json"))
    assert agreement == {
        "ImageType": {
            "agrees": 3,
            "conflicts": 0,
            "same words": 0,
            "alone": 0,
            "not mapped": 1,
        }
    }
    assert "ImageType" in _run(harvested, "agreement")
    coverage = json.loads(_run(harvested, "coverage", "--json"))
    assert coverage["kidney"] == {"unknown": 2}
    assert coverage["no group"] == {"unknown": 1}


def test_the_words_of_other_sources_are_listed_too(harvested: Path) -> None:
    found = json.loads(_run(harvested, "unmapped", "--source", "ImageType", "--json"))
    assert found == [{"words": "SMALL PARTS", "meaning": "", "studies": 1}]
    (probe,) = json.loads(_run(harvested, "unmapped", "--source", "TransducerData", "--json"))
    assert (probe["transducer_data"], probe["studies"]) == ("LA3-16A\\4711", 4)
    assert "LA3-16A" in _run(harvested, "unmapped", "--source", "TransducerData")


def test_coverage_is_drawn(harvested: Path, tmp_path: Path) -> None:
    picture = tmp_path / "coverage.svg"
    assert "thyroid" in _run(harvested, "coverage", "--plot", str(picture))
    assert "thyroid, unknown: 1" in _bars(picture.read_text("utf-8"))
    with pytest.raises(ConfigError, match="cannot be written"):
        _run(harvested, "coverage", "--plot", str(tmp_path / "none" / "a.svg"))


def test_a_plot_is_drawn_in_no_form_but_that_of_its_name(harvested: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c\.pdf: is drawn as SVG or PNG"):
        _run(harvested, "coverage", "--plot", str(tmp_path / "c.pdf"))
    assert not (tmp_path / "c.pdf").exists()


def test_a_decision_on_words_that_no_study_had_says_so(harvested: Path) -> None:
    told = "no study has had these words so far: the decision is kept"
    assert told in _run(harvested, "map", "NO SUCH WORDS", "liver")
    assert told in _run(harvested, "map", "US HEART", "liver", "--source", "ImageType")
    assert told not in _run(harvested, "map", "us  heart", "")
    assert told not in _run(harvested, "map")
    for _ in range(3):
        _run(harvested, "undo")


def test_every_geometry_has_a_colour_of_its_own_and_bars_have_the_length_of_their_counts() -> None:
    assert set(COLOURS) == set(Geometry)
    assert len(set(COLOURS.values())) == len(Geometry)
    bars = _bars(plotted({"liver": {"linear": 30, "phased": 10}, "chest": {}}))
    assert bars["liver, linear: 30"] == pytest.approx(3 * bars["liver, phased: 10"])
    assert _bars(plotted({})) == {}


def test_a_png_shows_the_same_bars(harvested: Path, tmp_path: Path) -> None:
    picture = tmp_path / "coverage.PNG"
    _run(harvested, "coverage", "--plot", str(picture))
    with Image.open(picture, formats=("PNG",)) as drawn:
        drawn.verify()
    counts = {"liver": {"linear": 30, "phased": 10}, "chest": {}}
    with Image.open(BytesIO(plotted_png(counts))) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    linear, phased = (
        int((pixels == ImageColor.getrgb(COLOURS[geometry])).all(axis=2).sum(axis=1).max())
        for geometry in (Geometry.LINEAR, Geometry.PHASED)
    )
    assert linear == pytest.approx(3 * phased, abs=2)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("US ABDO",), "no groups"),
        (("US ABDO", "heart"), "unknown group 'heart'"),
        ((" ", "liver"), "the words are empty"),
        (("C5-1", "liver", "--source", "TransducerData"), "site_transducers"),
    ],
)
def test_a_decision_that_cannot_be_taken_says_why(
    harvested: Path, arguments: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        _run(harvested, "map", *arguments)


def test_a_decision_is_undone_and_the_history_says_who_decided(harvested: Path) -> None:
    before = json.loads(_run(harvested, "coverage", "--json"))
    words = "US THYROID BIOPSY"
    _run(harvested, "map", words, "chest")
    assert "replaces: chest" in _run(harvested, "map", words, "liver")
    assert "liver" in json.loads(_run(harvested, "coverage", "--json"))
    assert "its words stand for chest" in _run(harvested, "undo")
    first = json.loads(_run(harvested, "history", "--json", "--most", "3"))[-1]
    assert (first["words"], first["groups"], first["state"]) == (words, "chest", "")
    assert first["who"] == f"{getpass.getuser()} (command line)"
    undone = _run(harvested, "undo", str(first["number"]))
    assert "nothing is decided of its words any more" in undone
    assert "1 instances have other groups" in undone
    assert json.loads(_run(harvested, "coverage", "--json")) == before
    assert "undoes" in _run(harvested, "history")
    with pytest.raises(ConfigError, match="no decision 4711"):
        _run(harvested, "undo", "4711")
