import numpy as np
import pytest

from dicom_node.store.readings import (
    QUALITY,
    Origin,
    Provenance,
    Reading,
    StoredReading,
    heard,
    living,
)

ORGANS = "liver-kidney"


def said(
    place: int,
    frame: int,
    *,
    reader: str = "a",
    value: int | None = None,
    mask: list[int] | None = None,
    labels: set[int] | None = None,
    origin: Origin = Origin.SEG,
) -> StoredReading:
    """Return a score, or a mask of one row; every call with one place is of one object."""
    pixels = None if mask is None else np.array([mask], np.uint8)
    return StoredReading(
        reading=Reading(
            frame_number=frame,
            about=QUALITY if mask is None else ORGANS,
            value=value,
            mask=pixels,
            labels=frozenset(labels if labels is not None else {1, 2}),
        ),
        provenance=Provenance(reader=reader, object=f"{reader}{place}", origin=origin),
        place=place,
    )


def masks(*readings: StoredReading) -> dict[int, list[int]]:
    """Return the masks that are heard, by frame number."""
    found = {}
    for number, words in heard(readings).items():
        assert words[-1].mask is not None
        found[number] = words[-1].mask[0].tolist()
    return found


def test_a_later_object_of_a_reader_takes_the_place_of_his_earlier_one() -> None:
    readings = said(1, 1, value=3), said(1, 2, value=3), said(2, 1, value=0)
    words = heard(readings)
    assert {number: [w.value for w in said] for number, said in words.items()} == {1: [0]}
    assert living(words) == {"a2"}


def test_the_order_is_that_of_the_places_and_not_of_the_list() -> None:
    assert heard([said(2, 1, value=0), said(1, 1, value=3)])[1][-1].value == 0


def test_only_the_labels_that_a_later_object_looks_for_are_taken_back() -> None:
    both = said(1, 1, mask=[1, 2, 0])
    kidney = said(2, 1, mask=[0, 0, 2], labels={2})
    assert masks(both, kidney) == {1: [1, 0, 2]}
    assert living(heard([both, kidney])) == {"a1", "a2"}


def test_labels_are_taken_back_in_frames_that_are_not_named_any_more() -> None:
    both = said(1, 1, mask=[1, 2, 0])
    elsewhere = said(2, 2, mask=[0, 0, 2], labels={2})
    assert masks(both, elsewhere) == {1: [1, 0, 0], 2: [0, 0, 2]}


def test_a_row_of_a_csv_speaks_of_its_frame_alone() -> None:
    rows = [said(place, place, value=place, origin=Origin.CSV) for place in (1, 2)]
    assert {number: words[-1].value for number, words in heard(rows).items()} == {1: 1, 2: 2}


@pytest.mark.parametrize("reader", ["b", "0"])
def test_of_several_readers_the_one_who_spoke_last_stands_last(reader: str) -> None:
    words = heard([said(1, 1, value=1), said(2, 1, value=2, reader=reader)])
    assert [word.value for word in words[1]] == [1, 2]
    assert living(words) == {"a1", f"{reader}2"}
