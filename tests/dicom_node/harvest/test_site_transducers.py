from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest.site_transducers import load_site_transducers
from dicom_node.harvest.transducer import Transducer, resolve
from dicom_node.records import Geometry

SITE = """transducer,geometry,manufacturer,probe
LA3-16A,linear,samsung,
C5_1,volume,,
8801,curvilinear,,C1-5
IQ3,curvilinear,butterfly,
HOCKEY,linear,,
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.csv"
    path.write_text(SITE, "utf-8")
    return path


def _resolved(site: Path, maker: str, data: str, kind: str = "", model: str = "") -> Transducer:
    return resolve(
        manufacturer=maker,
        model_name=model,
        transducer_data=data,
        transducer_type=kind,
        site=load_site_transducers(site),
    )


@pytest.mark.parametrize(
    ("scanner", "probe", "geometry", "rule"),
    [
        (("SAMSUNG MEDISON", "la3-16a\\77", "", ""), "LA3-16A", "linear", "site"),
        (("Philips", "la3-16a\\77", "", ""), None, "unknown", "none"),
        (("Philips", "UNUSED\\C5-1", "CURVED LINEAR", ""), "C5-1", "volume", "site"),
        (("GE", "8801", "LINEAR", ""), "C1-5", "curvilinear", "site"),
        (("Butterfly Network", "", "", "iQ3"), "IQ3", "curvilinear", "site"),
        (("", "hockey", "", ""), None, "linear", "site"),
        (("Philips", "L12-5", "", ""), "L12-5", "linear", "philips linear"),
    ],
)
def test_the_sites_probes_come_before_the_shipped_rules(
    site: Path, scanner: tuple[str, ...], probe: str | None, geometry: str, rule: str
) -> None:
    found = _resolved(site, *scanner)
    assert (found.probe, found.geometry, found.rule) == (probe, Geometry(geometry), rule)


def test_a_row_of_one_vendor_comes_before_the_row_of_all(tmp_path: Path) -> None:
    path = tmp_path / "site.csv"
    path.write_text("transducer,geometry,manufacturer\nV6-2,linear,\nV6-2,volume,philips\n")
    assert _resolved(path, "Philips", "V6-2").geometry is Geometry.VOLUME
    assert _resolved(path, "GE", "V6-2").geometry is Geometry.LINEAR


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("probe,geometry\n", "site.csv:1: no column 'transducer'"),
        ("transducer,geometry\nC5-1,curved\n", "site.csv:2: unknown geometry 'curved'"),
        ("transducer,geometry\n,linear\n", "site.csv:2: transducer is not one value"),
        ("transducer,geometry\nC5-1\\77,linear\n", "site.csv:2: transducer is not one value"),
        ("transducer,geometry\nUNUSED,linear\n", "site.csv:2: transducer is not one value"),
        ("transducer,geometry\nA1,linear\na1,phased\n", "site.csv:3: stands twice"),
        ("transducer,geometry\nA1\n", "site.csv:2: 1 cells, and the header has 2; put a cell that"),
        ("transducer,geometry,model\n77,linear,C1\n", "site.csv:1: unknown column 'model'"),
        ("transducer,geometry,probe\n77,linear,Dr Roe\n", "site.csv:2: probe 'Dr Roe' is no model"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, content: str, fault: str
) -> None:
    path = tmp_path / "site.csv"
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load_site_transducers(path)
    assert fault in str(raised.value)


def test_no_file_has_no_rows_and_an_absent_file_is_said(tmp_path: Path) -> None:
    assert load_site_transducers(None) == ()
    with pytest.raises(ConfigError, match=r"harvest\.site_transducers cannot"):
        load_site_transducers(tmp_path / "none.csv")
