import pytest

from dicom_node.harvest.transducer import Rule, load_rules, resolve
from dicom_node.records import Geometry
from dicom_node.store.records import PROBE, RULE

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
    assert found.probe is not None
    assert PROBE.fullmatch(found.probe)


@pytest.mark.parametrize(
    "data",
    ["", "\\\\", "UNUSED", "54629", "9D", "DOE^JANE", "20200131", "XYZ-1\\77", "C5-1 DOE", "V6-2"],
)
def test_what_no_rule_knows_is_unknown_and_not_repeated(data: str) -> None:
    found = resolve(
        manufacturer="Samsung", model_name="HS40", transducer_data=data, transducer_type=""
    )
    assert (found.probe, found.geometry, found.rule) == (None, Geometry.UNKNOWN, "none")


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
