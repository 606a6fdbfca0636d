from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.inbox import sender_of
from dicom_node.receive.storing import StoreCommand, file_meta

STILL = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.mark.parametrize("title", ["MODALITY1", "A", "SIXTEEN LETTERS!"])
def test_the_sender_of_a_received_file_is_read_from_its_head(tmp_path: Path, title: str) -> None:
    command = StoreCommand(
        sop_class_uid=STILL,
        sop_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title=title,
        abstract_syntax_uid=STILL,
    )
    (tmp_path / "in.dcm").write_bytes(file_meta(command))
    assert sender_of(tmp_path / "in.dcm") == title


def test_a_file_that_does_not_say_who_sent_it_has_no_sender(tmp_path: Path) -> None:
    path = Path(str(get_testdata_file("examples_palette.dcm")))
    title = dcmread(path, stop_before_pixels=True).file_meta.get("SourceApplicationEntityTitle", "")
    assert sender_of(path) == title
    for cut in (0, 100, 140, 150, 160):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:cut])
        assert sender_of(tmp_path / "cut") == ""
