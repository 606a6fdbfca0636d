"""The studies on the page: the list, the story, the patient, the pictures."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from starlette.testclient import TestClient

from dicom_node.page_settings import Role
from dicom_node.pixels.facts import read_facts
from dicom_node.results.overlay import COLOURS
from tests.support.page import browser, log_in, post
from tests.support.page_site import Site, say_in_shadow, site_in


@pytest.fixture(scope="module")
def site(made_once: Site) -> Site:
    """Return the node itself: these tests change nothing of it."""
    return made_once


@pytest.fixture(scope="module")
def shared(site: Site) -> Iterator[TestClient]:
    with browser(site.config) as client:
        yield client


@pytest.fixture
def client(shared: TestClient) -> TestClient:
    log_in(shared, Role.ADMIN)
    return shared


def patient(site: Site) -> list[str]:
    header = dcmread(site.images[0].path, stop_before_pixels=True)
    return [str(header.PatientName), str(header.PatientID)]


def test_the_list_says_where_each_study_is(client: TestClient, site: Site) -> None:
    text = client.get("/studies").text
    for uid, word in ((site.delivered, "delivered"), (site.refused, "given up")):
        row = text.split(f"/studies/{uid}")[1].split("</tr>")[0]
        assert f">{word}</span>" in row
    assert "2 studies with 3 instances" in text


def test_a_study_is_found_by_a_part_of_its_uid(client: TestClient, site: Site) -> None:
    text = client.get("/studies", params={"part": site.refused[-12:]}).text
    assert site.refused in text
    assert site.delivered not in text
    assert "No study fits" in client.get("/studies", params={"part": "%"}).text


def test_a_study_tells_its_whole_story(client: TestClient, site: Site) -> None:
    text = client.get(f"/studies/{site.delivered}").text
    steps = re.findall(r'<th scope="row">([a-z]+)</th>', text)
    assert steps == ["received", "complete", "harvested", "inferred", "validated", "delivered"]
    assert "revision 1: nothing came for 30 s" in text
    assert "pacs: 2 SEG, 2 SR delivered" in text
    assert text.count("small.png") == 2
    assert client.get("/studies/1.2.3").status_code == 404


def test_no_page_names_a_patient_unless_asked_to(client: TestClient, site: Site) -> None:
    for address in ("/studies", f"/studies/{site.delivered}", "/queue", "/health", "/audit"):
        text = client.get(address).text
        assert not any(word in text for word in patient(site)), address


def test_a_look_at_the_patient_is_written_down_before_it_is_shown(
    client: TestClient, site: Site
) -> None:
    page = f"/studies/{site.delivered}"
    answer = post(client, page, f"{page}/patient")
    assert all(word in answer.text for word in patient(site))
    [row] = client.app.state.desk.journal.latest(1)  # type: ignore[attr-defined]
    assert (row.name, row.action) == ("the admin", "looked at the patient")
    assert row.object == site.delivered
    assert not any(word in client.get("/audit").text for word in patient(site))


def test_who_may_not_know_the_patient_finds_no_button_and_no_way(
    shared: TestClient, site: Site
) -> None:
    page = f"/studies/{site.delivered}"
    log_in(shared, Role.LABELLER)
    assert "/patient" not in shared.get(page).text
    answer = post(shared, page, f"{page}/patient")
    assert answer.status_code == 403
    assert not any(word in answer.text for word in patient(site))


def pixels(client: TestClient, address: str) -> NDArray[np.uint8]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_outlines_stand_where_the_organs_are(client: TestClient, site: Site) -> None:
    still = site.images[0]
    box = read_facts(still.path).region
    assert box is not None
    picture = pixels(client, f"/studies/{site.delivered}/images/{still.sop_instance_uid}/large.png")
    scale = picture.shape[1] / box.width
    truth = still.label_maps[0][box.slices]
    for value in (1, 2):
        rows, columns = np.nonzero(np.all(picture == COLOURS[value - 1], axis=2))
        assert rows.size > 50
        for row, column in zip(rows[::25] / scale, columns[::25] / scale, strict=True):
            top, left = max(0, int(row) - 3), max(0, int(column) - 3)
            near = truth[top : int(row) + 4, left : int(column) + 4] == value
            assert near.any(), "near the organ"
            assert not near.all(), "on its edge"


def test_a_picture_holds_nothing_of_what_stands_around_the_scan(
    client: TestClient, site: Site
) -> None:
    still = site.images[0]
    facts = read_facts(still.path)
    assert facts.region is not None
    assert (facts.region.height, facts.region.width) != (facts.rows, facts.columns)
    picture = pixels(client, f"/studies/{site.delivered}/images/{still.sop_instance_uid}/small.png")
    assert picture.shape[1] == 320
    assert picture.shape[0] == round(320 * facts.region.height / facts.region.width)


def test_a_cine_is_looked_through_frame_by_frame(client: TestClient, site: Site) -> None:
    cine = site.images[1]
    address = f"/studies/{site.delivered}/images/{cine.sop_instance_uid}"
    text = client.get(f"{address}?frame=2").text
    assert "Frame 2 of 4" in text
    assert f"{address}?frame=1" in text
    assert f"{address}?frame=3" in text
    assert "by liver-kidney" in text
    frames = [pixels(client, f"{address}/{frame}/small.png") for frame in (1, 4)]
    assert not np.array_equal(*frames)
    assert client.get(f"{address}/5/small.png").status_code == 400
    assert client.get(f"{address}?frame=5").status_code == 404
    assert client.get(f"{address}/1/enormous.png").status_code == 404


def test_the_score_of_each_model_stands_beside_the_picture(client: TestClient, site: Site) -> None:
    address = f"/studies/{site.delivered}/images"
    still, cine = (client.get(f"{address}/{one.sop_instance_uid}").text for one in site.images)
    assert "View quality 1.0, of 0 (not usable) to 4 (best)" in still
    assert "by view-quality 1.0.0" in still
    assert "mean of 4 frames" in cine


def test_what_a_model_in_the_shadow_said_is_not_drawn(shared: TestClient, site: Site) -> None:
    log_in(shared, Role.VIEWER)
    image = site.images[0]
    page = f"/studies/{site.delivered}/images/{image.sop_instance_uid}"
    before, drawn = shared.get(page).text, shared.get(f"{page}/small.png").content
    say_in_shadow(site, image)
    assert shared.get(page).text == before
    assert shared.get(f"{page}/small.png").content == drawn


def test_an_image_of_another_study_is_not_there(client: TestClient, site: Site) -> None:
    uid = site.images[0].sop_instance_uid
    assert client.get(f"/studies/{site.refused}/images/{uid}/small.png").status_code == 404


@pytest.mark.data
def test_markup_in_a_header_stays_text(tmp_path: Path, test_data: Path) -> None:
    path = test_data / "dicom_bad" / "2017-06-27-XSSInjection.dcm"
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    hostile = site_in(tmp_path, path)
    with browser(hostile.config) as client:
        log_in(client, Role.ADMIN)
        assert uid in client.get("/studies").text
        shown = post(client, f"/studies/{uid}", f"/studies/{uid}/patient").text
    assert "<script>" not in shown
    assert "&lt;" in shown, "it is shown as it was written"


@pytest.mark.parametrize("word", ["", "x", "-", "12-", "9" * 30 + "-1.2", "-1.2", "5-<script>"])
def test_a_place_in_the_list_that_is_none_is_no_fault(client: TestClient, word: str) -> None:
    assert client.get("/studies", params={"after": word}).status_code == 200
