import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dicom_node.config import HarvestSettings
from dicom_node.harvest import Harvester, load_tables, open_harvester
from dicom_node.harvest.transducer import load_rules
from dicom_node.harvest.vocabulary import vocabulary
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, Geometry
from dicom_node.store import Finding, audit
from dicom_node.store.records import PROBE
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound

SITE = "transducer,geometry,manufacturer,probe\nX9 LAB,linear,,\n770815,phased,,P9\n"


@pytest.fixture
def harvester(tmp_path: Path) -> Iterator[Harvester]:
    (tmp_path / "site.csv").write_text(SITE)
    settings = HarvestSettings(site_transducers=tmp_path / "site.csv")
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(settings, tmp_path / "data", sandbox) as harvester,
    ):
        yield harvester


def _harvested(harvester: Harvester, folder: Path) -> Path:
    """Harvest probes of every kind of rule and return the store."""
    said = [
        ("Philips Medical Systems", "C5_1\\54629", "CURVED LINEAR"),
        ("Philips Medical Systems", "C5_1", "LINEAR"),
        ("SonoSite", "50.80.103.002", ""),
        ("Nobody", "9988", "SECTOR_PHASED"),
        ("Nobody", "X9 Lab", ""),
        ("Nobody", "770815", ""),
        ("Nobody", "SN 123456", ""),
    ]
    for number, (manufacturer, transducer, kind) in enumerate(said):
        pixels = np.stack([speckle(64, 64, seed=number)])
        image = ultrasound(
            pixels,
            SequenceOfUltrasoundRegions=[region_item(Box(left=0, top=0, right=64, bottom=64))],
            Manufacturer=manufacturer,
            TransducerData=transducer.split("\\"),
            TransducerType=kind or None,
            StudyDescription="US BIOPSY LIVER FOCAL",
            ImageType=["ORIGINAL", "PRIMARY", "ABDOMINAL"],
        )
        harvester.harvest(instance_of(saved(image, folder / f"{number}.dcm")))
    return folder / "data" / "store"


def _looked_at(store: Path, harvester: Harvester) -> list[Finding]:
    return audit(store, vocabulary(harvester.tables))


def test_all_that_a_harvest_writes_is_known(harvester: Harvester, tmp_path: Path) -> None:
    store = _harvested(harvester, tmp_path)
    assert len(harvester.store.frames()) == 7
    assert {frame.probe for frame in harvester.store.frames()} >= {"C5-1", "P21", "X9 LAB", "P9"}
    assert _looked_at(store, harvester) == []


@pytest.mark.parametrize(
    ("table", "column", "planted"),
    [
        ("instances", "probe", "SN 123456"),
        ("instances", "probe", "31-JAN-1980"),
        ("instances", "probe", "DOE JANE 2"),
        ("instances", "geometry_rule", "doe jane"),
        ("instances", "geometry_rule", "20200131"),
        ("evidence", "rule", "seen by dr doe"),
        ("evidence", "rule", "4711"),
    ],
)
def test_a_serial_date_name_or_id_that_looks_like_a_word_of_the_node_is_found(
    harvester: Harvester, tmp_path: Path, table: str, column: str, planted: str
) -> None:
    store = _harvested(harvester, tmp_path)
    key = "instance, source, term" if table == "evidence" else "rowid"
    first = f"SELECT {key} FROM {table} ORDER BY {key} LIMIT 1"  # noqa: S608
    with closing(sqlite3.connect(store / "catalogue.db")) as connection:
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE ({key}) = ({first})",  # noqa: S608
            [planted],
        )
        connection.commit()
    [finding] = _looked_at(store, harvester)
    assert finding.where == f"catalogue.db {table}.{column}, row 1"
    assert planted not in finding.what


def test_every_example_of_a_rule_is_a_known_probe() -> None:
    known = vocabulary(load_tables(HarvestSettings()))
    rules = load_rules()
    for rule in (*(r for vendor in rules.vendors for r in vendor.rules), *rules.generic):
        for example in rule.examples:
            token = rule.token or example
            assert not PROBE.fullmatch(token) or known["probe"](token)
        assert known["geometry_rule"](rule.name)
    assert not known["geometry_rule"](Geometry.LINEAR.value)
