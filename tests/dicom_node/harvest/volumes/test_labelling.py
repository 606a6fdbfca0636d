from typing import Any

import pytest

from dicom_node.harvest.volumes.labelling import (
    labels_of,
    plane_of,
    regions_of,
    rule_names,
    sequence_of,
)
from dicom_node.store.volumes import REGIONS, SeriesLabels
from tests.support.slices import AXIAL, CORONAL, SAGITTAL, magnetic, read

SPIN_ECHO, INVERSION, GRADIENT = ["SE"], ["SE", "IR"], ["GR"]


@pytest.mark.parametrize(
    ("scan", "echo_ms", "repetition_ms", "inversion_ms", "sequence"),
    [
        (SPIN_ECHO, 14, 500, None, "T1-SE"),
        (SPIN_ECHO, 100, 4000, None, "T2-SE"),
        (INVERSION, 20, 2000, 850, "T1-FLAIR"),
        (["IR"], 130, 9000, 2500, "T2-FLAIR"),
        # proton density, STIR, a gradient echo, diffusion: none of the five
        (SPIN_ECHO, 14, 3000, None, None),
        (INVERSION, 60, 4000, 150, None),
        (GRADIENT, 5, 500, None, None),
        (["SE", "EP"], 90, 6000, None, None),
        # an MPRAGE, a PSIR of the heart
        (["GR", "IR"], 2.98, 1900, 900, None),
        (["GR", "IR"], 1.5, 700, 400, None),
        (["EP", "IR"], 20, 2000, 850, None),
        # an inversion that Scanning Sequence does not name; 0 is none
        (SPIN_ECHO, 125, 11000, 2800, None),
        (SPIN_ECHO, 14, 500, 860, None),
        (SPIN_ECHO, 100, 4000, 0, "T2-SE"),
        # an inversion recovery that does not say its inversion time
        (INVERSION, 130, 9000, None, None),
    ],
)
def test_times_say_which_pulse_sequence_it_is(
    scan: list[str],
    echo_ms: float,
    repetition_ms: float,
    inversion_ms: float | None,
    sequence: str | None,
) -> None:
    told = magnetic(
        ScanningSequence=scan,
        EchoTime=echo_ms,
        RepetitionTime=repetition_ms,
        InversionTime=inversion_ms,
        SeriesDescription="T1 TSE",  # words make no sequence beside times
    )
    assert sequence_of(told)[0] == sequence
    assert sequence_of(told)[1] in rule_names()


@pytest.mark.parametrize("words", ["AX T2 FLAIR", "t2_tirm_tra", "STIR"])
def test_words_that_name_an_inversion_make_times_no_spin_echo(words: str) -> None:
    for keyword in ("SeriesDescription", "ProtocolName"):
        times = {"EchoTime": 125, "RepetitionTime": 11000, keyword: words}
        told = magnetic(ScanningSequence=SPIN_ECHO, **times)
        assert sequence_of(told) == (None, "times fit no row")


def test_words_make_no_flair_of_times_without_an_inversion_time() -> None:
    told = magnetic(
        ScanningSequence=INVERSION, EchoTime=130, RepetitionTime=9000, SeriesDescription="T2 FLAIR"
    )
    assert sequence_of(told) == (None, "times fit no row")


@pytest.mark.parametrize(
    ("description", "scan", "sequence", "rule"),
    [
        ("ax T1 FLAIR fs", None, "T1-FLAIR", "flair t1 by words"),
        ("T2_FLAIR", None, "T2-FLAIR", "flair t2 by words"),
        ("FLAIR", None, "T2-FLAIR", "flair by words"),
        ("t2 tse sag", None, "T2-SE", "spin echo t2 by words"),
        ("T1 sag", SPIN_ECHO, "T1-SE", "spin echo t1 by words"),
        ("T1 MPRAGE", None, None, "none"),
        ("T1 sag", GRADIENT, None, "none"),
        ("", None, None, "none"),
    ],
)
def test_words_speak_where_times_are_absent(
    description: str, scan: list[str] | None, sequence: str | None, rule: str
) -> None:
    told = magnetic(SeriesDescription=description, ScanningSequence=scan)
    assert sequence_of(told) == (sequence, rule)


def test_ct_is_ct_whatever_its_description() -> None:
    assert sequence_of(read(SeriesDescription="T1 SE")) == ("CT", "modality")


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (AXIAL, "AX"),
        (CORONAL, "COR"),
        (SAGITTAL, "SAG"),
        ([-1, 0, 0, 0, -1, 0], "AX"),
        ([1, 0, 0, 0, 0.9, -0.4359], "AX"),  # tilted
        ([1, 0, 0, 0, 0.7071, -0.7071], None),
    ],
)
def test_the_plane_is_the_orientation_s(orientation: list[float], plane: str | None) -> None:
    assert plane_of(read(ImageOrientationPatient=orientation))[0] == plane


def test_an_animal_has_no_plane_of_man() -> None:
    assert plane_of(read(AnatomicalOrientationType="QUADRUPED")) == (None, "quadruped")


def _regions(**fields: Any) -> tuple[set[str], set[str]]:
    """Return what is shown, and what is known not to be."""
    shown, known, rule = regions_of(read(**fields), 340.0)
    assert rule in rule_names()
    return set(shown), set(known - shown)


def test_a_breast_is_no_brain() -> None:
    shown, absent = _regions(BodyPartExamined="BREAST")
    assert shown == {"Breast"}
    assert {"Brain", "Head"} <= absent
    assert _regions(SeriesDescription="Br L K")[0] == set()


def test_what_lies_beside_a_part_is_neither_shown_nor_denied() -> None:
    shown, absent = _regions(BodyPartExamined="CHEST")
    assert shown == {"Lung"}
    assert not {"Neck", "Liver", "Breast"} & absent
    assert {"Brain", "Head", "Pelvis"} <= absent


def test_words_of_the_series_stand_before_those_of_the_study() -> None:
    both = {"SeriesDescription": "PELVIS 3mm", "StudyDescription": "CT HEAD AND PELVIS"}
    assert _regions(**both)[0] == {"Pelvis"}
    assert _regions(StudyDescription=both["StudyDescription"])[0] == {"Head", "Pelvis"}
    assert _regions(SeriesDescription="CHEST/ABDOMEN")[0] == {
        "Lung", "Liver", "Kidney", "Intestine"
    }  # fmt: skip


def test_a_part_that_the_words_contradict_is_unknown() -> None:
    told = read(BodyPartExamined="HEAD", SeriesDescription="PELVIS")
    assert regions_of(told, None) == (frozenset(), frozenset(), "body part contradicts words")
    assert regions_of(read(BodyPartExamined="WEIRD"), None)[2] == "none"


def test_a_short_axial_series_shows_a_piece_of_its_part_alone() -> None:
    told = read(BodyPartExamined="CHESTABDPELVIS")
    shown, known, rule = regions_of(told, 90.0)
    assert shown == frozenset()
    assert known == {"Brain", "Head"}
    assert rule == "body part of a short series"
    # along a coronal series there is no telling
    assert "Lung" in regions_of(told, None)[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"BodyPartExamined": "CHEST", "SeriesDescription": "CT HEAD"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "5mm", "StudyDescription": "CT BRAIN"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "BRAIN"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "SINUS"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "FACE"},
        {"BodyPartExamined": "CHEST", "ProtocolName": "Skull base to mid-thigh PET/CT"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "CT WB 3.0"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "WHOLE BODY LOW DOSE"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "NECK AND CHEST"},
        {"BodyPartExamined": "CHEST", "StudyDescription": "CT HEAD AND CHEST"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "PELVIS", "StudyDescription": "CT Kopf"},
        {"BodyPartExamined": "ABDOMEN", "SeriesDescription": "HEADNECK"},
        {"BodyPartExamined": "NECKCHESTABDPELV", "SeriesDescription": "CHEST"},
        {"SeriesDescription": "PELVIS 3mm", "StudyDescription": "CT HEAD AND PELVIS"},
        {"SeriesDescription": "thorax", "StudyDescription": "CT Sch\u00e4del"},
        {"StudyDescription": "TDM Thorax, t\u00eate"},
        {"BodyPartExamined": "WHOLEBODY", "SeriesDescription": "CHEST"},
        # a part that no row knows: it may be a head
        {"BodyPartExamined": "HUVUD", "SeriesDescription": "CHEST"},
    ],
)
def test_a_head_in_any_source_is_never_denied(fields: dict[str, str]) -> None:
    told = read(**{"SpecificCharacterSet": "ISO_IR 192"} | fields)
    for length_mm in (None, 200.0, 420.0):
        shown, known, rule = regions_of(told, length_mm)
        assert rule in rule_names()
        assert not (known - shown) & {"Head", "Brain"}


def test_words_that_show_nothing_of_each_other_s_say_nothing() -> None:
    told = read(BodyPartExamined="CHEST", SeriesDescription="HEAD")
    assert regions_of(told, None) == (frozenset(), frozenset(), "body part contradicts words")
    told = read(BodyPartExamined="CHEST", StudyDescription="HEAD")
    assert regions_of(told, None)[2] == "body part contradicts study"
    told = read(SeriesDescription="CHEST", StudyDescription="HEAD")
    assert regions_of(told, None)[2] == "words contradict study"
    # one is more than the other: what only the other shows is unknown
    shown, absent = _regions(BodyPartExamined="CHEST", SeriesDescription="CHEST ABDOMEN PELVIS")
    assert shown == {"Lung"}
    assert absent == {"Brain", "Head"}


def test_a_skull_base_is_no_skull_and_a_whole_body_shows_nothing_for_certain() -> None:
    for words in ("Skull base to thigh", "WHOLE BODY", "whole_body", "WB", "WHOLEBODY"):
        shown, known, rule = regions_of(read(SeriesDescription=words), 600.0)
        assert (shown, known, rule) == (frozenset(), frozenset(), "series words")
    assert regions_of(read(SeriesDescription="SKULL"), 100.0)[0] == {"Head"}


@pytest.mark.parametrize(
    ("words", "longest_mm"),
    [("CHEST", 450.0), ("ABDOMEN", 550.0), ("CHEST PELVIS", 750.0), ("CAP", 750.0)],
)
def test_an_axial_series_that_is_longer_than_its_part_may_show_everything(
    words: str, longest_mm: float
) -> None:
    told = read(BodyPartExamined=words)
    assert {"Head", "Brain"} <= regions_of(told, longest_mm)[1]
    shown, known, rule = regions_of(told, longest_mm + 1)
    assert shown == known == regions_of(told, longest_mm)[0]
    assert rule == "body part of a long series"
    assert rule in rule_names()


def _labels(*headers: dict[str, Any], make: Any = read) -> SeriesLabels:
    """Return the labels of a series of equal parts with these headers, one after the other."""
    slices = [make(number=n, **headers[n * len(headers) // 24]) for n in range(24)]
    labels = labels_of(slices, spacing_mm=12.0, extent_mm=276.0)
    for rule in (labels.sequence_rule, labels.contrast_rule, labels.regions_rule):
        assert rule in rule_names()
    return labels


def test_where_slices_disagree_nothing_is_known() -> None:
    agent = {"ContrastBolusAgent": "Iohexol"}
    for headers in ((agent, {}), ({}, agent), (agent, agent, {"ContrastBolusAgent": "NONE"})):
        labels = _labels(*headers)
        assert (labels.contrast, labels.contrast_rule) == (None, "slices differ")
    spin = {"ScanningSequence": ["SE"]}
    labels = _labels(
        spin | {"SeriesDescription": "T1"}, spin | {"SeriesDescription": "T2"}, make=magnetic
    )
    assert (labels.sequence, labels.sequence_rule) == (None, "slices differ")
    # headers that differ, and labels that do not
    labels = _labels(agent, {"ContrastBolusAgent": "Iohexol 350"})
    assert (labels.contrast, labels.contrast_rule) == (True, "agent")


@pytest.mark.parametrize("place", [0, 1, 11, 12, 23])
def test_one_slice_that_may_show_a_head_is_enough(place: int) -> None:
    chest = {"BodyPartExamined": "CHEST"}
    for head in ({"BodyPartExamined": "HEAD"}, chest | {"SeriesDescription": "WB"}, {}):
        headers = [chest] * 24
        headers[place] = head
        labels = _labels(*headers)
        assert not labels.regions_known & {"Head", "Brain"}
        assert labels.regions_rule == "slices differ"
    assert {"Head", "Brain"} <= _labels(chest).regions_known


def test_of_a_head_and_an_abdomen_in_one_nothing_is_shown() -> None:
    labels = _labels({"BodyPartExamined": "HEAD"}, {"BodyPartExamined": "ABDOMEN"})
    assert labels.regions == labels.regions_known == frozenset()
    # what both show and what both deny stays
    labels = _labels({"BodyPartExamined": "LIVER"}, {"BodyPartExamined": "ABDOMEN"})
    assert labels.regions == {"Liver"}
    assert labels.regions_known == {"Liver", "Head", "Brain", "Neck"}


def test_all_that_is_not_said_is_unknown() -> None:
    series = [magnetic(ImageOrientationPatient=[1, 0, 0, 0, 0.7071, -0.7071])] * 8
    labels = labels_of(series, spacing_mm=3.0, extent_mm=21.0)
    assert (labels.sequence, labels.plane, labels.contrast) == (None, None, None)
    assert (labels.regions, labels.regions_known) == (frozenset(), frozenset())
    assert labels.slice_spacing_mm == 3.0
    assert len(REGIONS) == 9
