import struct
from io import BytesIO

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import decode, encode

from dicom_node.errors import UnreadableError
from dicom_node.receive import command_set

RESPONSE: dict[int, int | str] = {
    command_set.COMMAND_FIELD: command_set.C_STORE_RSP,
    command_set.MESSAGE_ID_BEING_RESPONDED_TO: 65535,
    command_set.COMMAND_DATA_SET_TYPE: command_set.NO_DATA_SET,
    command_set.STATUS: 0xA700,
    command_set.ERROR_COMMENT: "odd",
    command_set.AFFECTED_SOP_CLASS_UID: "1.2.840.10008.5.1.4.1.1.6.1",
    command_set.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
}


def test_what_is_written_is_what_pynetdicom_reads() -> None:
    read = decode(BytesIO(command_set.encode(RESPONSE)), True, True)
    assert read.Status == 0xA700
    assert read.CommandField == 0x8001
    assert read.MessageIDBeingRespondedTo == 65535
    assert read.ErrorComment == "odd"
    assert read.AffectedSOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
    assert read.AffectedSOPInstanceUID == "1.2.3"
    assert read.CommandGroupLength == len(command_set.encode(RESPONSE)) - 12


def test_what_pynetdicom_writes_is_what_is_read() -> None:
    written = Dataset()
    written.CommandField = 1
    written.MessageID = 7
    written.AffectedSOPInstanceUID = "1.2.345"
    data = encode(written, True, True)
    assert data is not None
    command = command_set.parse(data)
    assert command_set.number(command, command_set.COMMAND_FIELD) == command_set.C_STORE_RQ
    assert command_set.number(command, command_set.MESSAGE_ID) == 7
    assert command_set.text(command, command_set.AFFECTED_SOP_INSTANCE_UID) == "1.2.345"
    assert command_set.text(command, command_set.AFFECTED_SOP_CLASS_UID) == ""


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        struct.pack("<HHL", 0, 0x0100, 9) + b"\1\0",
        struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF),
        struct.pack("<HHL", 8, 0x0016, 2) + b"1\0",
    ],
    ids=["half an element", "a short value", "an endless value", "another group"],
)
def test_what_is_no_command_set_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        command_set.parse(data)


@pytest.mark.parametrize("value", [b"", b"\1", b"\1\0\0\0"])
def test_a_number_of_another_length_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableError, match="0000,0110"):
        command_set.number({command_set.MESSAGE_ID: value}, command_set.MESSAGE_ID)


@pytest.mark.parametrize("longest", [0, 7, 32, 16384])
def test_a_command_fits_the_pdus_of_any_peer(longest: int) -> None:
    command = command_set.encode(RESPONSE)
    together = b""
    last = 0
    for pdu in command_set.pdus(command, context_id=3, longest=longest):
        kind, length = struct.unpack_from(">BxL", pdu)
        assert kind == 4
        assert length == len(pdu) - 6
        assert not longest or length <= longest
        size, context_id, last = struct.unpack_from(">LBB", pdu, 6)
        assert size == length - 4
        assert context_id == 3
        assert last & 1
        together += pdu[12:]
    assert together == command
    assert last == 3
