import pytest

from dicom_node.errors import PermanentError
from dicom_node.records import checked_uid


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008.1.1", "2.25.0", "1.02.3", "9" * 64])
def test_numbers_joined_by_dots_are_a_uid(uid: str) -> None:
    assert checked_uid(uid, "SOPInstanceUID") == uid


@pytest.mark.parametrize(
    "uid",
    ["", ".", "..", "1..2", ".1", "1.", "../../etc", "1.2\\1.3", "1.2\0", "1.2\n", "1" * 65],
)
def test_what_a_path_could_trip_over_is_none(uid: str) -> None:
    with pytest.raises(PermanentError, match="SOPInstanceUID"):
        checked_uid(uid, "SOPInstanceUID")
