import csv
import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.config import HarvestSettings
from dicom_node.harvest.labels import weak_labels
from dicom_node.harvest.tables import load_tables
from dicom_node.harvest.transducer import Rule, load_rules, normal_values, resolve
from dicom_node.harvest.words import read_words
from dicom_node.records import Geometry
from dicom_node.store.records import PROBE, RULE
from tests.support.frames import changed, pydicom_file, saved, speckle, ultrasound

#: What real files were seen to hold, with what is known of the probe.
SEEN = [
    (
        "Philips Medical Systems",
        "CX50",
        "C5-1\\UNUSED\\UNUSED",
        "CURVED LINEAR",
        "C5-1",
        "curvilinear",
    ),
    ("Philips Medical Systems", "CX50", "S5-1\\UNUSED\\UNUSED", "SECTOR_PHASED", "S5-1", "phased"),
    ("Philips", "ClearVue 650", "3D9-3v\\UNUSED\\UNUSED", "CURVED LINEAR", "3D9-3V", "endocavity"),
    ("Philips Medical Systems", "iU22", "C5_1\\\\", "", "C5-1", "curvilinear"),
    ("Philips Medical Systems", "EPIQ 7C", "S5_1\\55360\\ ", "", "S5-1", "phased"),
    ("Philips Medical Systems", "EPIQ 5G", "L12_5\\\\ ", "", "L12-5", "linear"),
    ("SIEMENS", "ACUSON S2000", "6C1 HD", "CURVED LINEAR", "6C1", "curvilinear"),
    ("ACUSON", "SEQUOIA", "85\\4V1c-S ", "VECTOR_PHASED", "4V1C-S", "phased"),
    ("ACUSON", "SEQUOIA", "9d\\6L3\\ ", "LINEAR", "6L3", "linear"),
    ("ACUSON", "SEQUOIA", "b6\\6C2-S\\", "", "6C2-S", "curvilinear"),
    ("ACUSON", "", "", "VECTOR_PHASED", None, "phased"),
    ("TOSHIBA_MEC_US", "TUS-A500", "PLT-1204BX\\\\", "LINEAR", "PLT-1204BX", "linear"),
    ("TOSHIBA_MEC_US", "", "PVT-375BT\\\\", "", "PVT-375BT", "curvilinear"),
    ("Mindray", "DC-30", "V10-4BP\\ \\ ", "", "V10-4BP", "endocavity"),
    ("SonoSite, Inc.", "Turbo", "50.80.103.002\\\\ ", "", "P21", "phased"),
    ("Teratech", "", "15L4\\15L4\\CompensationLut.Y ", "LINEAR", "15L4", "linear"),
    ("GE Healthcare", "LOGIQ E9", "C1-6\\575\\836357531", "", "C1-6", "curvilinear"),
    ("Mindray", "", "SC6-1s,02597", "", "SC6-1S", "curvilinear"),
    ("Philips", "Lumify", "S4-1U\\UNUSED\\UNUSED", "", "S4-1U", "phased"),
    ("Butterfly Network", "iQ3", "", "", "IQ3", "unknown"),
    ("G.E. Medical Systems", "LOGIQ 700", "", "", None, "unknown"),
    ("ESAOTE", "6100", "", "", None, "unknown"),
    ("", "", "C9_2\\54689\\", "", "C9-2", "curvilinear"),
    ("Philips Medical Systems", "Affiniti 70G", "S5_1\\55360\\ ", "", "S5-1", "phased"),
    ("Philips Medical Systems", "", "C5_2\\\\", "", "C5-2", "curvilinear"),
    ("Philips Medical Systems", "", "X8_2t", "", "X8-2T", "phased"),
    ("Philips Medical Systems", "", "L12-3\\UNUSED", "", "L12-3", "linear"),
    ("GE Healthcare", "", "C2-9\\585\\", "", "C2-9", "curvilinear"),
    ("ACUSON", "SEQUOIA", "8d\\4V1-S\\", "", "4V1-S", "phased"),
    ("", "", "4V1", "", None, "unknown"),
    ("SonoSite, Inc.", "Turbo", "P21", "", "P21", "phased"),
    ("Butterfly Network", "iQ", "", "", None, "unknown"),
    ("Butterfly Network Inc.", "iQ+", "", "", None, "unknown"),
    ("GE Healthcare", "LOGIQe", "", "", None, "unknown"),
    ("GE Medical Systems", "LOGIQBook", "", "", None, "unknown"),
    ("GE Healthcare Austria GmbH & Co OG", "Voluson S", "", "", None, "unknown"),
    ("GE Vingmed Ultrasound", "Vivid E95", "", "", None, "unknown"),
    ("ATL", "HDI5000/DVS", "", "", None, "unknown"),
    ("ALOKA CO., LTD.", "SSD-4000", "", "", None, "unknown"),
    ("Hewlett-Packard", "", "", "", None, "unknown"),
    ("Agilent Technologies", "", "", "", None, "unknown"),
    ("SuperSonic Imagine", "Aixplorer", "SL10-2\\1\\2", "", "SL10-2", "linear"),
]


def _all_rules() -> list[tuple[str, Rule, str]]:
    rules = load_rules()
    makers = {
        "philips": "Philips Medical Systems",
        "ge": "GE Healthcare",
        "siemens": "SIEMENS",
        "mindray": "Mindray",
        "canon": "Canon Medical Systems",
        "samsung": "SAMSUNG MEDISON",
        "supersonic": "SuperSonic Imagine",
        "sonosite": "SonoSite",
        "esaote": "Esaote",
        "ultrasonix": "Ultrasonix",
        "terason": "Terason",
        "butterfly": "Butterfly",
    }
    named = [
        (makers[v.name], rule, e) for v in rules.vendors for rule in v.rules for e in rule.examples
    ]
    return named + [
        ("Nobody", rule, example) for rule in rules.generic for example in rule.examples
    ]


@pytest.mark.parametrize(("maker", "model", "data", "kind", "probe", "geometry"), SEEN)
def test_what_was_seen_in_real_files_resolves(
    maker: str, model: str, data: str, kind: str, probe: str | None, geometry: str
) -> None:
    found = resolve(
        manufacturer=maker, model_name=model, transducer_data=data, transducer_type=kind
    )
    assert (found.probe, found.geometry) == (probe, Geometry(geometry))
    assert RULE.fullmatch(found.rule)


@pytest.mark.parametrize(("maker", "rule", "example"), _all_rules())
def test_every_example_of_a_rule_is_decided_by_that_rule(
    maker: str, rule: Rule, example: str
) -> None:
    found = resolve(manufacturer=maker, model_name="", transducer_data=example, transducer_type="")
    if maker == "Butterfly":
        found = resolve(
            manufacturer=maker, model_name=example, transducer_data="", transducer_type=""
        )
    assert (found.rule, found.geometry) == (rule.name, rule.geometry)
    assert found.probe is None or PROBE.fullmatch(found.probe)
    # Butterfly's first models have no digit
    assert found.probe is not None or example in ("IQ", "IQ+")


@pytest.mark.parametrize(
    "data",
    ["", "\\\\", "UNUSED", "54629", "9D", "DOE^JANE", "20200131", "XYZ-1\\77", "C5-1 DOE", "V6-2"],
)
def test_what_no_rule_knows_is_unknown_and_not_repeated(data: str) -> None:
    found = resolve(
        manufacturer="Samsung", model_name="HS40", transducer_data=data, transducer_type=""
    )
    assert (found.probe, found.geometry, found.rule) == (None, Geometry.UNKNOWN, "none")


@pytest.mark.parametrize(("maker", "rule", "example"), _all_rules())
def test_no_serial_number_date_or_name_passes_as_a_part_of_a_model(
    maker: str, rule: Rule, example: str
) -> None:
    longer = set()
    for planted in ("836357531", "19700131", "4711-0815", "DOE", "JANE DOE"):
        longer |= {example + planted, f"{example}-{planted}", planted + example}
        longer |= {f"{planted}-{example}", re.sub(r"\d+", planted, example, count=1)}
        longer.add(re.sub(r"\d+", planted, example))
    for data in longer - {example}:
        found = resolve(
            manufacturer=maker, model_name=data, transducer_data=data, transducer_type=""
        )
        assert (found.probe, found.rule) == (None, "none"), data


def test_one_name_means_two_probes_at_two_vendors() -> None:
    words = {"model_name": "", "transducer_data": "V10-4", "transducer_type": ""}
    assert resolve(manufacturer="Mindray", **words).geometry is Geometry.ENDOCAVITY
    assert resolve(manufacturer="Philips", **words).geometry is Geometry.UNKNOWN


def test_sources_that_contradict_each_other_give_unknown() -> None:
    found = resolve(
        manufacturer="Philips",
        model_name="",
        transducer_data="L12-5",
        transducer_type="CURVED LINEAR",
    )
    assert (found.probe, found.geometry) == ("L12-5", Geometry.UNKNOWN)
    assert found.rule == "philips linear contradicts transducer type"


def test_only_the_first_values_are_looked_at() -> None:
    data = "\\".join(["X"] * 8 + ["C5-1"])
    found = resolve(manufacturer="Philips", model_name="", transducer_data=data, transducer_type="")
    assert found.probe is None


def test_a_chip_that_imitates_every_geometry_says_so() -> None:
    words = {"transducer_data": "", "transducer_type": ""}
    found = resolve(manufacturer="Butterfly Network", model_name="iQ", **words)
    assert (found.geometry, found.rule) == (Geometry.UNKNOWN, "butterfly imitated")


def test_the_name_in_sonosites_private_attributes_is_one_more_value(tmp_path: Path) -> None:
    path = changed("examples_ybr_color.dcm", tmp_path / "a.dcm", TransducerData=None)
    assert read_words(path).transducer_data == "P21"
    labels = weak_labels(path, load_tables(HarvestSettings()))
    assert (labels.probe, labels.geometry, labels.geometry_rule) == (
        "P21",
        Geometry.PHASED,
        "sonosite phased",
    )
    assert read_words(pydicom_file("examples_ybr_color.dcm")).transducer_data.endswith("\\P21")


@pytest.mark.parametrize(
    ("creator", "clip"),
    [
        ("Somebody Else", "<ScanheadName>P21</ScanheadName>"),
        ("SonoSite Private Data", "<ScanheadName></ScanheadName>"),
        ("SonoSite Private Data", f"<ScanheadName>{'P' * 65}</ScanheadName>"),
    ],
)
def test_other_private_attributes_say_nothing_of_the_probe(
    tmp_path: Path, creator: str, clip: str
) -> None:
    data_set = dcmread(pydicom_file("examples_ybr_color.dcm"))
    del data_set.TransducerData
    data_set[0x00190010].value, data_set[0x00191050].value = creator, clip
    assert read_words(saved(data_set, tmp_path / "a.dcm")).transducer_data == ""


def test_private_attributes_are_read_in_implicit_vr_too(tmp_path: Path) -> None:
    data_set = ultrasound(speckle(64, 64)[None])
    data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    block = data_set.private_block(0x0019, "SonoSite Private Data", create=True)
    block.add_new(0x50, "UN", b"<Clip><ScanheadName> L25x </ScanheadName></Clip>")
    assert read_words(saved(data_set, tmp_path / "a.dcm")).transducer_data == "L25x"


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_file_resolves_as_its_table_says_or_to_unknown(test_data: Path) -> None:
    with (test_data / "transducer_models.csv").open(encoding="utf-8") as file:
        seen = [row for row in csv.DictReader(file) if row["grade"].startswith("A")]
    known = 0
    for path in sorted((test_data / "dicom_us").glob("*.dcm")):
        words = read_words(path)
        rows = [
            re.split("[_ ]", row["geometry"])[0]
            for value in normal_values(words.transducer_data)
            for row in seen
            if re.match(row["pattern"], value)
        ]
        found = weak_labels(path, load_tables(HarvestSettings())).geometry
        by_type = {"VECTOR_PHASED": "phased"}.get(words.transducer_type, "unknown")
        assert found == (rows[0] if rows else by_type), path.name
        known += found is not Geometry.UNKNOWN
    assert known == 16
