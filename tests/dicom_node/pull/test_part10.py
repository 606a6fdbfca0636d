from io import BytesIO

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import UnreadableError
from dicom_node.pull.part10 import file_meta_of, is_bare, is_part10

CLASS = "1.2.840.10008.5.1.4.1.1.6.1"


def content() -> bytes:
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CLASS, "1.5"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CLASS, "1.5"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.PrivateInformationCreatorUID = "1.9"
    ds.file_meta.PrivateInformation = b"\x08\0" * 300
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_file_says_what_it_holds_and_where_its_data_set_begins() -> None:
    whole = content()
    meta = file_meta_of(whole)
    assert (meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid) == (CLASS, "1.5")
    assert meta.transfer_syntax_uid == ExplicitVRLittleEndian
    assert whole[meta.offset :][:4] == b"\x08\0\x16\0", "SOP Class UID (0008,0016)"


def test_a_file_without_the_length_of_the_group_is_read_too() -> None:
    whole = content()
    without = whole[:132] + whole[144:]
    assert file_meta_of(without).offset == file_meta_of(whole).offset - 12


@pytest.mark.parametrize("length", [0, 131, 133, 150, 200])
def test_a_file_that_ends_too_soon_is_unreadable(length: int) -> None:
    with pytest.raises(UnreadableError):
        file_meta_of(content()[:length])


def test_what_has_no_prefix_is_no_dicom() -> None:
    assert is_part10(content())
    assert not is_part10(b"%PDF-1.7" * 40)
    assert not is_part10(b"")


@pytest.mark.parametrize(
    ("head", "bare"),
    [
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", True),
        (b"\x02\x00\x00\x00UL\x04\x00\xc0\x00\x00\x00", True),
        (b"\x08\x00\x05\x00words of somebody", False),
        (b"\x08\x00\x60\x00CS\x02\x00US", False),
        (b"\x10\x00\x10\x00PN\x04\x00Roe^", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"\x08\x00", False),
        (b"", False),
    ],
)
def test_a_data_set_without_preamble_is_known_by_its_first_element(head: bytes, bare: bool) -> None:
    assert is_bare(head) is bare
