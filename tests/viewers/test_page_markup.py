"""The XSS file sent to a running node, and what Chromium makes of each page that tells of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicom_node.config import load
from dicom_node.demo.ports import free_port
from dicom_node.page_settings import Role
from dicom_node.phantom.study import StudySpec, ViewSpec, write_study
from dicom_node.records import Task
from tests.support.nodes import Node, send, until
from tests.support.pacs import Pacs, pacs
from tests.support.page_site import dead

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
pytest.importorskip("playwright", reason="needs the test group: make test installs it")
from tests.support.bundles import write_bundle
from tests.support.engineer import Engineer, chromium
from tests.support.page_people import somebody

pytestmark = [
    pytest.mark.viewers,
    pytest.mark.dimse,
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
#: An AE title has at most 16 characters (PS3.5 6.2).
MARKED_UP_AE_TITLE = "<img src=x>"
MAKER = "<script>alert('maker')</script>"
WORDS = ("PatientName", "PatientID", "StudyDescription", "SeriesDescription")
#: What a page has that is not its own: foreign scripts and pictures, and handlers in elements.
STRANGERS = """
() => [
  ...[...document.scripts].filter((one) => !one.src.startsWith(location.origin + "/static/")),
  ...[...document.images].filter((one) => !one.src.startsWith(location.origin)),
  ...[...document.querySelectorAll("body *")].filter((one) =>
    one.getAttributeNames().some((name) => name.startsWith("on"))),
].map((one) => one.outerHTML)
"""


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """A node that got files whose headers are markup."""

    node: Node
    address: str
    #: the XSS file's own study, and a phantom's with the same words in its header
    file_study: str
    phantom_study: str
    image: str
    description: str


@pytest.fixture(scope="module")
def archive() -> Iterator[Pacs]:
    """Return a PACS that takes reports and refuses every one."""
    with pacs(free_port(), COMPREHENSIVE_3D_SR) as running:
        running.answer = lambda _: 0xA900
        yield running


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, test_data: Path, archive: Pacs
) -> Iterator[Hostile]:
    folder, page = tmp_path_factory.mktemp("hostile"), free_port()
    xss = test_data / "dicom_bad" / "2017-06-27-XSSInjection.dcm"
    header = dcmread(xss, stop_before_pixels=True)
    still = marked_up(folder, header)
    (folder / "bundles").mkdir()
    write_bundle(folder / "bundles" / "quality.onnx", Task.QUALITY, manufacturer=MAKER)
    port = free_port()
    tree = {
        "node": {
            "data": "./data",
            "ae_title": "NODE",
            "port": port,
            "processes": 1,
            "min_free_gib": 0,
            "callers": [{"ae_title": "*", "host": "*"}],
        },
        "study": {"quiet_s": 1},
        "bundles": "./bundles",
        "destinations": [archive.destination.model_dump(mode="json")],
        "page": {"port": page},
    }
    (folder / "node.yaml").write_text(yaml.safe_dump(tree))
    node = Node(folder=folder, port=port)
    try:
        node.start()
        assert send([xss, still], port, MARKED_UP_AE_TITLE) == [0, 0]
        sent = [dcmread(path, stop_before_pixels=True) for path in (xss, still)]
        studies = [str(one.StudyInstanceUID) for one in sent]
        until(lambda: node.finished(*studies), why=node.log)
        until(lambda: dead(node.config) == 1, why=node.log)
        until(lambda: '"page ready"' in node.log, why=node.log)
        yield Hostile(
            node=node,
            address=f"http://127.0.0.1:{page}",
            file_study=studies[0],
            phantom_study=studies[1],
            image=str(sent[1].SOPInstanceUID),
            description=str(header.StudyDescription),
        )
        assert node.stop() == 0
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()


@pytest.fixture
def ann(hostile: Hostile, needs_program: Callable[[str], str]) -> Iterator[Engineer]:
    config = load(hostile.node.folder / "node.yaml")
    with (
        chromium(needs_program("chromium")) as browser,
        somebody(browser, hostile.address, config, "ann", Role.ADMIN) as someone,
    ):
        someone.page.on("dialog", lambda dialog: someone.complaints.append(dialog.message))
        yield someone


def marked_up(folder: Path, header: FileDataset) -> Path:
    """Write a phantom's still whose header has the words of the XSS file."""
    [still] = write_study(folder, StudySpec(seed=3, patient=1, views=(ViewSpec(quality=4),)))
    dataset = dcmread(still.path)
    for keyword in WORDS:
        setattr(dataset, keyword, getattr(header, keyword))
    dataset.Manufacturer = MAKER
    dataset.save_as(still.path)
    return still.path


def assert_harmless(ann: Engineer, path: str, *words: str) -> None:
    """Open a page on which these words stand as text, and nothing of them is markup."""
    ann.go(path)
    ann.page.wait_for_load_state("networkidle")
    assert_shown(ann, path, *words)


def assert_shown(ann: Engineer, path: str, *words: str) -> None:
    shown = ann.words().lower()
    for one in words:
        assert one.lower() in shown, f"{one} on {path}"
    assert ann.page.evaluate(STRANGERS) == [], path


def test_markup_in_headers_runs_nowhere_on_the_page(ann: Engineer, hostile: Hostile) -> None:
    phantom = f"/studies/{hostile.phantom_study}"
    assert_harmless(ann, "/studies", hostile.file_study, hostile.phantom_study)
    for study in (hostile.file_study, hostile.phantom_study):
        assert_harmless(ann, f"/studies/{study}", MARKED_UP_AE_TITLE)
        ann.press("Show the patient")
        assert_shown(ann, study, 'HelloWorld<script>alert("XSS inside', hostile.description)
    assert_harmless(ann, f"{phantom}/images/{hostile.image}", "View quality")
    assert_harmless(ann, "/queue", "1 given up", hostile.phantom_study)
    assert_harmless(ann, "/models/quality.onnx", MAKER)
    assert_harmless(ann, "/audit", "looked at the patient")
    assert_harmless(ann, "/health", "1 given up")
    assert_harmless(ann, "/labels", hostile.description)
    ann.press(hostile.description.upper())
    assert_shown(ann, "the description", hostile.description)
    ann.page.check("input[value=liver]")
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_selector("text=Every study description that came is mapped.")
    assert_harmless(ann, "/labels?mapped=1", hostile.description, "liver")
    assert_harmless(ann, "/labels/history", hostile.description, "ann")
