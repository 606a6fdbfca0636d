import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_node.errors import UnreadableError
from dicom_node.receive.attributes import DEPTH_LIMIT, ITEM_LIMIT, Attributes, parse

REFERENCE = {"ReferencedSOPClassUID": None, "ReferencedSOPInstanceUID": None}
SHAPE = {"TransactionUID": None, "ReferencedSOPSequence": REFERENCE}
UNDEFINED = 0xFFFFFFFF


def element(group: int, number: int, length: int, value: bytes = b"") -> bytes:
    return struct.pack("<HHL", group, number, length) + value


BEGIN = element(0x0008, 0x1199, UNDEFINED)
ITEM, ITEM_END = element(0xFFFE, 0xE000, UNDEFINED), element(0xFFFE, 0xE00D, 0)
END = element(0xFFFE, 0xE0DD, 0)


def request(*numbers: int, undefined: bool = False) -> Dataset:
    made = Dataset()
    made.PatientName = "Secret^Name"
    made.TransactionUID = "1.2.9"
    items = []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.3"
        item.ReferencedSOPInstanceUID = f"1.2.3.{number}"
        item.is_undefined_length_sequence_item = undefined
        items.append(item)
    made.ReferencedSOPSequence = items
    made["ReferencedSOPSequence"].is_undefined_length = undefined
    nested = Dataset()
    nested.ReferencedSOPInstanceUID = "9.9"
    nested.CodeMeaning = "Secret"
    made.ProcedureCodeSequence = [nested]
    made.StudyComments = "x" * 300
    return made


def encoded(dataset: Dataset, is_implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = is_implicit, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("is_implicit", [False, True])
def test_a_number_is_read_whatever_its_bytes_mean_as_text(is_implicit: bool) -> None:
    made = Dataset()
    for number in (0x0112, 0x2000, 0x0020):
        made.FailureReason = number
        found = parse(encoded(made, is_implicit), {"FailureReason": None}, is_implicit=is_implicit)
        assert found.number("FailureReason") == number
    assert Attributes().number("FailureReason") is None


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("is_implicit", [True, False])
def test_what_is_wanted_is_read_and_nothing_else(is_implicit: bool, undefined: bool) -> None:
    data = encoded(request(1, 22, 333, undefined=undefined), is_implicit)
    found = parse(data, SHAPE, is_implicit=is_implicit)
    assert found.text("TransactionUID") == "1.2.9"
    listed = [
        item.text("ReferencedSOPInstanceUID") for item in found.items("ReferencedSOPSequence")
    ]
    assert listed == ["1.2.3.1", "1.2.3.22", "1.2.3.333"]
    assert "Secret" not in str(found)
    assert "9.9" not in str(found)


def test_an_absent_or_empty_sequence_has_no_items() -> None:
    for dataset in (Dataset(), request()):
        found = parse(encoded(dataset, True), SHAPE, is_implicit=True)
        assert found.items("ReferencedSOPSequence") == []
    assert parse(b"", SHAPE, is_implicit=False) == Attributes()


def test_an_unknown_sequence_of_undefined_length_is_passed_over() -> None:
    inner = element(0x0009, 0x1001, 4, b"abcd")
    private = struct.pack("<HH2sHL", 0x0009, 0x1010, b"UN", 0, UNDEFINED)
    data = private + ITEM + inner + ITEM_END + END + encoded(request(1), False)
    found = parse(data, SHAPE, is_implicit=False)
    assert len(found.items("ReferencedSOPSequence")) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        element(0x0008, 0x1195, 99, b"1.2"),
        BEGIN + ITEM + element(0x0008, 0x1155, 5000, b"1"),
        BEGIN + element(0x0008, 0x1155, 0),
        (BEGIN + ITEM) * (DEPTH_LIMIT + 1),
        BEGIN + element(0xFFFE, 0xE000, 0) * (ITEM_LIMIT + 1) + END,
    ],
    ids=["a byte", "long value", "long in item", "no item", "deep", "many"],
)
def test_what_is_no_data_set_or_beyond_the_limits_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse(data, SHAPE, is_implicit=True)


def test_an_element_without_a_vr_is_refused() -> None:
    with pytest.raises(UnreadableError, match="no VR"):
        parse(element(0x0008, 0x1195, 0), SHAPE, is_implicit=False)


FOUR_MEBIBYTES: dict[str, Callable[[int], bytes]] = {
    "items": lambda n: BEGIN + element(0xFFFE, 0xE000, 0) * n + END,
    "elements of an item": lambda n: BEGIN + ITEM + element(0x0009, 0x1001, 0) * n + ITEM_END + END,
    "depth": lambda n: (BEGIN + ITEM) * (n // 2),
    "elements": lambda n: element(0x0009, 0x1001, 0) * n,
}


def digest(data: bytes) -> None:
    with suppress(UnreadableError):
        parse(data, SHAPE, is_implicit=True)


def cpu_s(data: bytes) -> float:
    began = time.process_time()
    digest(data)
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize("made", FOUR_MEBIBYTES.values(), ids=FOUR_MEBIBYTES)
def test_four_mebibytes_of_anything_cost_little_memory(made: Callable[[int], bytes]) -> None:
    data = made(500_000)
    tracemalloc.start()
    try:
        digest(data)
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 32 << 20


@pytest.mark.slow
@pytest.mark.parametrize("made", FOUR_MEBIBYTES.values(), ids=FOUR_MEBIBYTES)
def test_time_grows_no_faster_than_the_bytes(made: Callable[[int], bytes]) -> None:
    quarter, whole = (min(cpu_s(made(count)) for _ in range(3)) for count in (125_000, 500_000))
    # four times as much; where time grew with the square it were sixteen
    assert whole < 8 * quarter + 0.05


@pytest.mark.parametrize("is_implicit", [True, False])
def test_mutated_bytes_are_read_or_refused_and_raise_nothing_else(is_implicit: bool) -> None:
    rng = random.Random(7)
    whole = encoded(request(*range(9), undefined=True), is_implicit)
    outcomes = set()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randint(1, len(data))])
        try:
            parse(cut, SHAPE, is_implicit=is_implicit)
            outcomes.add("read")
        except UnreadableError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
