"""What each of the three people does on the page, in headless Chromium; labels have tests apart."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.config import load
from dicom_node.harvest.desk import DESCRIPTION, open_desk
from dicom_node.page.desk import Desk
from dicom_node.page_settings import Role
from tests.support.page import PASSWORD
from tests.support.page_site import REFUSED, Site, dead

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
pytest.importorskip("playwright", reason="needs the test group: make test installs it")
from playwright.sync_api import Browser

from tests.support import axe
from tests.support.engineer import PHONE, Engineer, chromium, engineer
from tests.support.page_people import JOB, PICTURES, UNMAPPED, busy_site_in, served, somebody

pytestmark = [pytest.mark.viewers, pytest.mark.slow, pytest.mark.timeout(300)]

SomeBody = Callable[..., AbstractContextManager[Engineer]]
LOOKS: dict[str, dict[str, Any]] = {
    "desk": {},
    "dark-phone": {"viewport": PHONE, "has_touch": True, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def browser(needs_program: Callable[[str], str]) -> Iterator[Browser]:
    with chromium(needs_program("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return busy_site_in(tmp_path_factory.mktemp("busy"))


@pytest.fixture
def site(made_once: Site, tmp_path: Path) -> Site:
    """Return a copy for one test alone."""
    shutil.copytree(made_once.config.node.data.parent, tmp_path / "site")
    return replace(made_once, config=load(tmp_path / "site" / "node.yaml"))


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with served(site.config) as address:
        yield address


@pytest.fixture
def as_role(browser: Browser, address: str, site: Site) -> SomeBody:
    def sit_down(role: Role, name: str = "ann", **context: Any) -> AbstractContextManager[Engineer]:
        return somebody(browser, address, site.config, name, role, **context)

    return sit_down


def is_shown(someone: Engineer, selector: str) -> bool:
    """Whether a picture came and has a size."""
    someone.page.wait_for_load_state("networkidle")
    picture = f"document.querySelector('{selector}')"
    return bool(someone.page.evaluate(f"{picture}.complete && {picture}.naturalWidth > 0"))


def test_the_engineer_goes_from_health_to_what_was_given_up_and_drops_it(
    as_role: SomeBody, site: Site
) -> None:
    with as_role(Role.ADMIN) as ann:
        ann.go("/health")
        assert "2 results given up for pacs" in ann.words()
        ann.press("2 given up")
        assert ann.words().count(REFUSED) == 2
        ann.press("Drop 2 dead letters")
        assert "Drop 2 dead letters for pacs?" in ann.words()
        ann.press("Keep them")
        assert dead(site.config) == 2
        ann.press("Drop 2 dead letters")
        ann.press("Drop them")
        assert "2 dead letters dropped" in ann.words()
        assert dead(site.config) == 0


def test_the_engineer_stops_a_job_and_runs_it_again(as_role: SomeBody) -> None:
    with as_role(Role.ADMIN) as ann:
        ann.go("/queue")
        assert JOB in ann.words()
        ann.press("Cancel")
        assert "The job is cancelled" in ann.words()
        ann.press("Run again")
        assert "The job runs again." in ann.words()


def test_who_looked_at_a_patient_is_seen_by_another_administrator_and_by_no_viewer(
    as_role: SomeBody, site: Site
) -> None:
    study = f"/studies/{site.delivered}"
    name = str(dcmread(site.images[0].path, stop_before_pixels=True).PatientName)
    with as_role(Role.ADMIN) as ann:
        ann.go(study)
        assert name not in ann.words()
        ann.press("Show the patient")
        assert name in ann.words()
    with as_role(Role.ADMIN, "cleo") as cleo:
        cleo.go(study)
        cleo.press("Who looked at its patient")
        assert "ann" in cleo.words()
        assert "looked at the patient" in cleo.words()
        assert site.delivered in cleo.words()
        assert name not in cleo.words()
    with as_role(Role.VIEWER, "vic") as vic:
        vic.go(study)
        assert "Show the patient" not in vic.words()
        assert "Who looked" not in vic.words()
        answer = vic.page.goto(f"{vic.address}/audit")
        assert answer is not None
        assert answer.status == 403
        assert "this needs the role admin" in vic.words()
        vic.complaints.clear()  # the browser tells of a 403 as an error


def test_the_researcher_reads_what_the_store_holds_and_how_models_compare(
    as_role: SomeBody,
) -> None:
    with as_role(Role.VIEWER, "rob") as rob:
        rob.go("/")
        rob.press("Coverage")
        assert is_shown(rob, "img.plot")
        rows = rob.page.locator("tbody tr").all_inner_texts()
        assert [row.split() for row in rows if row.startswith("thyroid")] == [["thyroid", "3", "3"]]
        rob.press("Models")
        words = rob.words()
        assert "in the shadow" in words
        assert "test-quality 1" in words
        assert "images of the study groups liver, that are stills (the site's rule)" in words
        assert "view-quality 2 beside view-quality 1.0.0, 1 image" in words
        assert "+1.00" in words
        rob.press("test-segmentation 1")
        assert "What it learned from" in rob.words()
        assert "infer.routes" in rob.words()


def test_the_radiologist_sees_outlines_and_the_score_of_the_view(
    as_role: SomeBody, site: Site
) -> None:
    with as_role(Role.LABELLER, "lea") as lea:
        lea.go("/studies")
        lea.press(site.delivered)
        assert is_shown(lea, ".card img")
        lea.press("Image 1")
        assert is_shown(lea, ".picture img")
        for words in ("Liver by liver-kidney", "Kidney by", "View quality 1.0, of 0", "not for"):
            assert words in lea.words()
        lea.press("Next image")
        assert "mean of 4 frames" in lea.words()


def test_the_radiologist_maps_and_undoes_with_a_finger_on_a_phone(
    as_role: SomeBody, site: Site
) -> None:
    with (
        open_desk(site.config.harvest, data=site.config.node.data) as desk,
        as_role(Role.LABELLER, "lea", viewport=PHONE, has_touch=True) as lea,
    ):
        lea.go("/labels")
        lea.page.tap(f"text={UNMAPPED}")
        lea.page.tap("label:has-text('kidney')")
        lea.page.tap("button:has-text('Save and next')")
        lea.page.wait_for_selector("text=Your last decision")
        key = DESCRIPTION, UNMAPPED
        assert desk.notes.decisions()[key] == {"kidney"}
        assert lea.overflow() <= 0
        lea.page.tap("nav >> text=Labels")
        lea.page.tap("text=Who decided what")
        lea.page.tap("[aria-label='Undo decision 1']")
        lea.page.wait_for_selector("h1:has-text('SONO NIERE BDS')")
        assert key not in desk.notes.decisions()


def test_a_wrong_password_is_told_and_the_right_one_leads_on(
    browser: Browser, address: str, site: Site
) -> None:
    with closing(Desk(site.config)) as desk:
        desk.users.add("ann", Role.VIEWER, PASSWORD)
    with engineer(browser, address, PICTURES) as ann:
        ann.go("/queue")
        ann.log_in("ann", "not the right one")
        assert ann.page.inner_text("[role=alert]") == "Name or password is wrong."
        assert ann.faults() == []
        ann.tab_to("Password")
        ann.page.keyboard.type(PASSWORD)
        ann.press("Log in")
        assert "Destinations" in ann.words()


def pages_of(site: Site) -> dict[str, str]:
    study = f"/studies/{site.delivered}"
    with open_desk(site.config.harvest, data=site.config.node.data) as desk:
        token = desk.token(UNMAPPED)
    return {
        "studies": "/studies",
        "studies-none": "/studies?part=9.9.9",
        "study": study,
        "image": f"{study}/images/{site.images[0].sop_instance_uid}",
        "cine": f"{study}/images/{site.images[1].sop_instance_uid}",
        "queue": "/queue",
        "queue-dead": "/queue?state=stored",
        "drop": "/queue/drop?destination=pacs",
        "labels": "/labels",
        "labels-mapped": "/labels?mapped=1",
        "labels-words": f"/labels/words/{token}",
        "labels-history": "/labels/history",
        "coverage": "/coverage",
        "models": "/models",
        "model": "/models/liver.onnx",
        "health": "/health",
        "audit": "/audit",
        "nothing": "/nothing",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_shuts_anybody_out(as_role: SomeBody, site: Site, look: str) -> None:
    if not axe.SCRIPT.is_file():
        pytest.skip(f"axe-core {axe.VERSION} is missing: make viewers fetches it with npm")
    found: list[str] = []
    with as_role(Role.ADMIN, **LOOKS[look]) as ann:
        # it finds what is wrong
        ann.page.set_content('<title>A page</title><main><h1>A page</h1><img src="/a.png">')
        wrong = {one.partition(":")[0] for one in axe.violations(ann.page)}
        assert wrong == {"html-has-lang", "image-alt"}
        for name, path in pages_of(site).items():
            ann.go(path)
            ann.page.wait_for_load_state("networkidle")
            found += [f"{name}: {one}" for one in (*ann.faults(), *axe.violations(ann.page))]
            if ann.overflow() > 0:
                found.append(f"{name}: {ann.overflow()} pixels too wide")
            ann.photograph(f"task-{name}-{look}")
        ann.complaints[:] = [one for one in ann.complaints if "404" not in one]
    assert found == []
