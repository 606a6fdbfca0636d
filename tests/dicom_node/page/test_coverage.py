import re
from pathlib import Path
from xml.etree import ElementTree

from dicom_node.harvest.desk import open_desk
from dicom_node.page_settings import Role
from tests.support.described import blank_in, describe
from tests.support.page import browser, log_in

STUDIES = (("1", "US THYROID BIOPSY", 3), ("2", "US HEART", 2))


def test_the_coverage_of_the_store_is_a_table_and_a_picture(tmp_path: Path) -> None:
    config = blank_in(tmp_path)
    with browser(config) as client:
        assert client.get("/coverage").status_code == 303
        log_in(client, Role.VIEWER)
        assert "Nothing yet" in client.get("/coverage").text
        ElementTree.fromstring(client.get("/coverage.svg").content)  # noqa: S314 (drawn by us)
        with open_desk(config.harvest, data=config.node.data) as desk:
            describe(desk, STUDIES)
        page = client.get("/coverage").text
        rows = re.findall(r'<th scope="row">([\w ]+)</th>(.*)</tr>', page)
        counts = {group: re.findall(r">(\d+)<", cells) for group, cells in rows}
        biopsied = ["3", "3"]
        assert counts == {"no group": ["2", "2"], "nodule": biopsied, "thyroid": biopsied}
        assert "HEART" not in page
        assert 'src="/coverage.svg"' in page
        plot = client.get("/coverage.svg")
        assert plot.headers["content-type"] == "image/svg+xml"
        assert "thyroid, unknown: 3" in plot.text
