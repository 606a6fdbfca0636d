from datetime import date

import pytest

from dicom_node.pull.asked import FoundStudy, Image, Wanted

DAY = date(2024, 1, 2)


def wanted(**values: str) -> Wanted:
    return Wanted(
        since=DAY, until=DAY, modality=values.get("modality"), description=values.get("d")
    )


@pytest.mark.parametrize(
    ("pattern", "description", "fits"),
    [
        ("US LIVER", "us liver ", True),
        ("*liver*", "US LIVER BIOPSY", True),
        ("US L?VER", "US LIVER", True),
        ("US", "US LIVER", False),
        ("US [LK]*", "US LIVER", False),
        ("US (LIVER)", "US (LIVER)", True),
        ("*", "", True),
        ("*liver*", "", False),
    ],
)
def test_a_description_is_matched_on_our_side_whatever_its_case(
    pattern: str, description: str, fits: bool
) -> None:
    study = FoundStudy(study_instance_uid="1.2", description=description)
    assert wanted(d=pattern).takes(study) is fits


def test_a_study_of_another_modality_is_not_wanted() -> None:
    ct = FoundStudy(study_instance_uid="1.2", modalities=frozenset({"CT", "SR"}))
    assert not wanted(modality="US").takes(ct)
    assert wanted(modality="SR").takes(ct)


def test_where_the_archive_tells_no_modalities_of_a_study_its_series_decide() -> None:
    study, asked = FoundStudy(study_instance_uid="1.2"), wanted(modality="US")
    ct, us, untold = (
        Image(series_instance_uid="1.3", sop_instance_uid="1.4", modality=modality)
        for modality in ("CT", "US", "")
    )
    assert asked.takes(study)
    assert not asked.takes_listed(study, [ct])
    assert asked.takes_listed(study, [ct, us])
    assert asked.takes_listed(study, [untold])


def test_a_pattern_that_no_attribute_can_hold_is_not_sent() -> None:
    assert wanted(d="*liver*").sent_description == "*liver*"
    assert wanted(d="x" * 65).sent_description == ""
