from typing import Any

import numpy as np
import pytest

from dicom_node.harvest.counts import Skip
from dicom_node.harvest.volumes.assembling import Stack, assembled
from dicom_node.phantom.series import MR_IMAGE
from tests.support.slices import CORONAL, header_slice, magnetic, read


def _stack(count: int = 12, **fields: Any) -> Stack:
    found = assembled([read(number, **fields) for number in range(count)])
    assert isinstance(found, Stack)
    return found


def test_slices_are_put_in_order_by_position_from_feet_to_head() -> None:
    order = np.random.default_rng(0).permutation(12)
    found = assembled([read(int(number), SliceThickness=1) for number in order])
    assert isinstance(found, Stack)
    assert [one.position[2] for one in found.slices] == [5 * number for number in range(12)]
    assert (found.spacing_mm, found.extent_mm) == (5.0, 55.0)


def test_a_flipped_orientation_runs_the_same_way() -> None:
    found = _stack(ImageOrientationPatient=[1, 0, 0, 0, -1, 0])
    assert found.slices[0].position[2] < found.slices[-1].position[2]


@pytest.mark.parametrize("lost", [[5], [5, 6], [1, 10]])
def test_a_gap_is_found(lost: list[int]) -> None:
    slices = [read(number) for number in range(12) if number not in lost]
    assert assembled(slices) is Skip.MISSING_SLICES


def test_an_uneven_spacing_is_found() -> None:
    places = [0, 5, 10, 16, 20, 25, 30, 35, 40, 45]
    slices = [read(ImagePositionPatient=[0, 0, z]) for z in places]
    assert assembled(slices) is Skip.UNEVEN
    rounded = [read(ImagePositionPatient=[0, 0, round(0.333 * n, 2)]) for n in range(12)]
    assert isinstance(assembled(rounded), Stack)


def test_two_series_in_one_are_found() -> None:
    other: dict[str, list[Any]] = {
        "ImageOrientationPatient": CORONAL,
        "PixelSpacing": [1, 2],
        "PatientID": ["4712"],
    }
    for keyword, value in other.items():
        mixed = [read(n) for n in range(10)] + [
            read(n, **{keyword: value if len(value) > 1 else value[0]}) for n in range(10, 20)
        ]
        assert assembled(mixed) is Skip.MIXED


T2 = {"ScanningSequence": ["SE"], "EchoTime": 100, "RepetitionTime": 4000, "InversionTime": 0}


@pytest.mark.parametrize(
    "other",
    [
        {"EchoTime": 14, "RepetitionTime": 500},
        {"EchoTime": 94},
        {"EchoTime": None},
        {"RepetitionTime": 4300},
        {"InversionTime": 2500},
        {"ScanningSequence": ["SE", "IR"]},
        {"ScanningSequence": None},
    ],
)
def test_two_pulse_sequences_in_one_stack_are_found(other: dict[str, Any]) -> None:
    for is_other in (lambda n: n % 2, lambda n: n < 9, lambda n: n == 19):
        mixed = [magnetic(number=n, **(T2 | (other if is_other(n) else {}))) for n in range(20)]
        assert assembled(mixed) is Skip.MIXED


def test_times_that_are_rounded_from_slice_to_slice_are_one_sequence() -> None:
    slices = [
        magnetic(
            number=n,
            ScanningSequence=["SE", "IR"] if n % 2 else ["IR", "SE"],
            EchoTime=100 + 0.2 * n,
            RepetitionTime=9000 + 20 * n,
            InversionTime=2500 - n,
        )
        for n in range(20)
    ]
    assert isinstance(assembled(slices), Stack)
    silent = [magnetic(number=n) for n in range(20)]
    assert isinstance(assembled(silent), Stack)


def test_two_interleaved_stacks_are_no_even_one() -> None:
    places = [5 * n for n in range(10)] + [5 * n + 1 for n in range(10)]
    slices = [read(ImagePositionPatient=[0, 0, z]) for z in places]
    assert assembled(slices) is Skip.MISSING_SLICES


def test_other_sizes_are_found() -> None:
    slices = [read(number, Rows=64 if number < 11 else 65) for number in range(12)]
    assert assembled(slices) is Skip.SIZES_DIFFER


@pytest.mark.parametrize("count", [0, 1, 7])
def test_few_slices_are_no_volume(count: int) -> None:
    assert assembled([read(number) for number in range(count)]) is Skip.TOO_FEW_SLICES


def test_few_places_are_no_volume_however_many_slices_show_them() -> None:
    assert assembled([read(number % 4) for number in range(12)]) is Skip.TOO_FEW_SLICES


def test_slices_in_one_place_are_doubles() -> None:
    found = assembled([read(number) for number in range(12)] + [read(3), read(3)])
    assert isinstance(found, Stack)
    assert len(found.slices) == 12
    assert {at: len(many) for at, many in found.doubles.items()} == {3: 2}


@pytest.mark.parametrize("degrees", [0, 15, 30])
def test_a_tilted_gantry_shifts_the_slices(degrees: float) -> None:
    shift_mm = 5 * np.tan(np.radians(degrees))
    found = assembled([read(ImagePositionPatient=[0, shift_mm * n, 5 * n]) for n in range(12)])
    assert isinstance(found, Stack)
    assert found.spacing_mm == pytest.approx(5)
    assert found.shifts_mm[:, 0] == pytest.approx(0)
    assert found.shifts_mm[:, 1] == pytest.approx(shift_mm * np.arange(12))


def test_what_no_gantry_tilts_by_is_refused() -> None:
    slices = [read(ImagePositionPatient=[0, 9 * n, 5 * n]) for n in range(12)]
    assert assembled(slices) is Skip.TILTED


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Skip.LOCALISER),
        ({"BurnedInAnnotation": "YES"}, Skip.BURNED_IN),
        ({"NumberOfFrames": 3}, Skip.NOT_AN_IMAGE),
        ({"ImagePositionPatient": None}, Skip.NO_GEOMETRY),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, Skip.NO_GEOMETRY),
        ({"PixelSpacing": None}, Skip.NO_GEOMETRY),
        ({"PixelSpacing": [0, 1]}, Skip.NO_GEOMETRY),
        ({"PixelSpacing": [1, 4000]}, Skip.NO_GEOMETRY),
        ({"PixelSpacing": ["1e-30", "1e-30"]}, Skip.NO_GEOMETRY),
        ({"Rows": None}, Skip.NO_GEOMETRY),
        ({"Rows": 0}, Skip.NO_GEOMETRY),
        ({"RescaleIntercept": None}, Skip.NO_RESCALE),
        ({"RescaleType": "US"}, Skip.NO_RESCALE),
        ({"RescaleSlope": 0}, Skip.IMPOSSIBLE_RESCALE),
        ({"RescaleSlope": "1e38"}, Skip.IMPOSSIBLE_RESCALE),
        ({"RescaleIntercept": "-1e30"}, Skip.IMPOSSIBLE_RESCALE),
        ({"SOPClassUID": MR_IMAGE, "RescaleSlope": 0}, Skip.IMPOSSIBLE_RESCALE),
        ({"SOPClassUID": MR_IMAGE, "RescaleSlope": "1e999"}, Skip.IMPOSSIBLE_RESCALE),
        ({"SOPClassUID": MR_IMAGE, "RescaleSlope": [0, 0]}, Skip.IMPOSSIBLE_RESCALE),
        ({"SOPClassUID": MR_IMAGE, "RescaleIntercept": "1e999"}, Skip.IMPOSSIBLE_RESCALE),
    ],
)
def test_what_is_no_slice_says_why(fields: dict[str, Any], fault: Skip) -> None:
    assert header_slice(**fields) is fault
