from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import HarvestSettings
from dicom_node.harvest import open_harvester
from dicom_node.pixels.sandbox import PixelSandbox
from tests.support.accounts import as_another, given_away, shared

_IMPORTS = (
    "import encodings.ascii; from dicom_node.config import HarvestSettings; "
    "from dicom_node.harvest import open_harvester; "
    "from dicom_node.pixels.sandbox import PixelSandbox"
)
_OPEN = """
sandbox = PixelSandbox(memory_mib=512, timeout_s=60)
with sandbox, open_harvester(HarvestSettings(), folder, sandbox):
    print("opened")
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Yield the data folder of a harvest, that another account may only read."""
    with (
        PixelSandbox(memory_mib=512, timeout_s=60) as sandbox,
        open_harvester(HarvestSettings(), tmp_path / "data", sandbox),
    ):
        pass
    with shared(tmp_path / "data") as copy:
        yield copy


@pytest.mark.parametrize("closed", ["harvest.db", "store/catalogue.db"])
def test_a_harvest_that_may_only_read_does_not_begin_until_it_may_write(
    data: Path, closed: str
) -> None:
    # a database's folder counts, too: its log lies there
    open_to_all = {path: path.parent for path in (*data.glob("*.db"), data / "store/catalogue.db")}
    folder = open_to_all.pop(data / closed)
    for path, beside in open_to_all.items():
        path.chmod(0o666)
        beside.chmod(0o777)
    key = data / "pseudonym.key"
    key.chmod(0o600)
    given_away(key)
    said = as_another(_OPEN, data, imports=_IMPORTS)
    assert said.startswith("DatabaseDownError")
    assert f"{closed}: this account may only read it; run this as the account that owns it" in said
    folder.chmod(0o777)
    (data / closed).chmod(0o666)
    assert as_another(_OPEN, data, imports=_IMPORTS) == "opened"
