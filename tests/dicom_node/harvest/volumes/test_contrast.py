from typing import Any

import pytest

from dicom_node.harvest.volumes.contrast import contrast_of
from dicom_node.harvest.volumes.labelling import rule_names
from tests.support.slices import read


@pytest.mark.parametrize(
    ("fields", "contrast"),
    [
        ({"ContrastBolusAgent": "Iohexol 350"}, True),
        ({"ContrastBolusAgent": "NONE"}, False),
        ({"ContrastBolusAgent": "", "SeriesDescription": "T1 +C"}, True),
        ({"SeriesDescription": "Abdomen without contrast"}, False),
        ({"SeriesDescription": "Abdomen w/o contrast"}, False),
        ({"ProtocolName": "post-contrast"}, True),
        # nothing said, or both: an absent agent denies nothing
        ({}, None),
        ({"ContrastBolusAgent": ""}, None),
        ({"SeriesDescription": "with contrast, pre contrast"}, None),
        # no word of the table
        ({"SeriesDescription": "precontrasting contrasts"}, None),
    ],
)
def test_contrast_is_the_agent_s_or_the_words(
    fields: dict[str, Any], contrast: bool | None
) -> None:
    found, rule = contrast_of(read(**fields))
    assert found is contrast
    assert rule in rule_names()


@pytest.mark.parametrize(
    "words",
    [
        *("NON-ENHANCED", "not enhanced", "T1 PRE GD", "pre-gad", "W/O GD", "no GD", "NON-CE"),
        *("NO IV CONTRAST", "NON CONTRAST ENHANCED", "T1 without GD", "wo contrast"),
    ],
)
def test_a_negation_before_an_agent_denies_it(words: str) -> None:
    for keyword in ("SeriesDescription", "ProtocolName"):
        assert contrast_of(read(**{keyword: words})) == (False, "words")


@pytest.mark.parametrize(
    "words", ["T1 +C", "POST GD", "CE MRA", "WITH IV CONTRAST", "NON FS T1 GD", "ENHANCED"]
)
def test_an_agent_without_a_negation_grants_it(words: str) -> None:
    assert contrast_of(read(SeriesDescription=words)) == (True, "words")


@pytest.mark.parametrize(
    "words",
    [
        *("PRE AND POST CONTRAST", "W/WO CONTRAST", "W/WO", "WO/W CONTRAST"),
        *("WITH AND WITHOUT CONTRAST", "WITHOUT AND WITH GD", "W AND WO CONTRAST"),
        *("W & W/O CONTRAST", "PRE/POST GD"),
    ],
)
def test_before_and_after_in_one_is_unknown(words: str) -> None:
    assert contrast_of(read(SeriesDescription=words)) == (None, "words contradict")


@pytest.mark.parametrize(
    "agent",
    [
        *("NO CONTRAST", "NONE GIVEN", "without contrast", "NOT GIVEN", "FALSE", "W/O", "no"),
        *("None.", "NO IV", "0", "0 ml", "N", "no gadolinium", "NO CONTRAST MEDIUM GIVEN"),
    ],
)
def test_an_agent_that_holds_a_denial_is_none(agent: str) -> None:
    assert contrast_of(read(ContrastBolusAgent=agent)) == (False, "agent")


@pytest.mark.parametrize(
    "agent", ["N/A", "NA", "UNKNOWN", "-", "ORAL", "Oral & IV", "WATER", "W/WO"]
)
def test_an_agent_that_is_not_said_or_is_drunk_is_unknown(agent: str) -> None:
    told = read(ContrastBolusAgent=agent, SeriesDescription="WITH CONTRAST")
    assert contrast_of(told) == (None, "agent unclear")
    assert "agent unclear" in rule_names()


@pytest.mark.parametrize(
    "agent",
    [
        *("OMNIPAQUE 350 NO REACTION", "ISOVUE 370 100ML NO ADVERSE REACTION"),
        *("GADOVIST NOT DILUTED", "no Omnipaque", "Iohexol non diluted"),
    ],
)
def test_a_denial_beside_a_name_is_unknown(agent: str) -> None:
    assert contrast_of(read(ContrastBolusAgent=agent)) == (None, "agent unclear")


@pytest.mark.parametrize("agent", ["Non-ionic 300", "OMNIPAQUE 0.5 ml", "Agent N"])
def test_an_agent_with_a_denial_in_its_name_is_one(agent: str) -> None:
    assert contrast_of(read(ContrastBolusAgent=agent)) == (True, "agent")
