import re
from pathlib import Path

from dicom_node.harvest.counts import Skip
from dicom_node.harvest.volumes.assembling import FEWEST_SLICES
from dicom_node.harvest.volumes.resampling import PERCENTILES, WINDOW_HU
from dicom_node.store.volumes import PLANES, REGIONS, SEQUENCES, SHAPE

TEXT = (Path(__file__).parents[2] / "docs" / "volumes.md").read_text("utf-8")


def test_the_page_counts_what_the_harvest_counts() -> None:
    counted = re.findall(r"^\| `([a-z ]+)` \|", TEXT, re.MULTILINE)
    assert set(counted) < {skip.value for skip in Skip}
    of_series = list(Skip)[list(Skip).index(Skip.LOCALISER) :]
    assert {skip.value for skip in of_series} <= set(counted)


def test_the_page_has_every_label_and_number() -> None:
    for names in (SEQUENCES, PLANES, REGIONS):
        assert ", ".join(names) in TEXT
    assert "{} slices of {} x {}".format(*SHAPE) in TEXT
    assert "from {:.0f} to {:.0f} Hounsfield units".format(*WINDOW_HU) in TEXT
    assert "from the {}th percentile of all to the {}th".format(*PERCENTILES) in TEXT
    assert f"fewer than {FEWEST_SLICES} places" in TEXT
