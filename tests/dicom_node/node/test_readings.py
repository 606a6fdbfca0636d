from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from dicom_node.inbox import Inbox
from dicom_node.node.harvesting import keeper
from dicom_node.node.readings import PULLED, readings
from dicom_node.phantom.study import US_IMAGE
from dicom_node.pull.asked import Incoming
from dicom_node.receive import statuses


def test_what_was_pulled_since_the_start_is_read_at_a_scrape(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, min_free_bytes=0)
    inbox.pulled.add(3)
    [reading] = [one for one in readings(inbox, []) if one.metric is PULLED]
    # another process pulls
    keep = keeper(Inbox(tmp_path, min_free_bytes=0), "NODE")
    answers = [
        keep(
            Incoming(
                sop_class_uid=US_IMAGE,
                sop_instance_uid="1.5",
                transfer_syntax_uid=syntax,
                fragments=[b"data set"],
            )
        )
        for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
    ]
    assert answers == [statuses.SUCCESS.code, statuses.SOP_CLASS_NOT_SUPPORTED.code]
    assert list(reading.read()) == [((), 1)]
    assert len(inbox.waiting()) == 1
