import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicom_node import __version__
from dicom_node.config import Config, load
from dicom_node.harvest.desk import DESCRIPTION, LabelDesk, open_desk
from dicom_node.page_settings import Role
from tests.support.described import blank_in, describe
from tests.support.page import browser, log_in, post, token_on

XSS = "<script>alert('DOE^JANE')</script>"
STUDIES = (
    ("1", "us abdo", 3),
    ("2", "US  ABDO", 1),
    ("3", XSS, 1),
    ("4", "US HEART", 0),
    ("5", "US THYROID BIOPSY", 1),
)
ABDO, HEART = "US ABDO", "US HEART"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    config = blank_in(folder)
    with open_desk(config.harvest, data=config.node.data) as desk:
        describe(desk, STUDIES)
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    """A node that harvested, for one test alone."""
    shutil.copytree(made, tmp_path / "site")
    return load(tmp_path / "site" / "node.yaml")


@pytest.fixture
def desk(config: Config) -> Iterator[LabelDesk]:
    with open_desk(config.harvest, data=config.node.data) as desk:
        yield desk


@pytest.fixture
def ann(config: Config, desk: LabelDesk) -> Iterator[TestClient]:
    with browser(config) as client:
        log_in(client, Role.LABELLER, "ann")
        yield client


def _of(desk: LabelDesk, words: str) -> str:
    return f"/labels/words/{desk.token(words)}"


def _decide(client: TestClient, at: str, *groups: str, **fields: str) -> Any:
    version = re.findall(r'name="version" value="(\d+)"', client.get(at).text)[0]
    sent = {"csrf": token_on(client, at), "version": version, "groups": groups, **fields}
    return client.post(at, data=sent)


def _undo(client: TestClient, number: int) -> Any:
    return post(client, "/labels/history", "/labels/undo", number=str(number))


def _groups(desk: LabelDesk) -> list[frozenset[str]]:
    """Return the groups of frames that have some; those of the thyroid are left out."""
    of_frames = [frame.groups for frame in desk.store.frames()]
    return [groups for groups in of_frames if groups and "thyroid" not in groups]


def test_nobody_sees_anything_without_a_log_in(config: Config, desk: LabelDesk) -> None:
    frame = f"/frames/{desk.store.frames()[0].frame_id}.png"
    with browser(config) as client:
        for address in ("/labels", "/labels/history", _of(desk, ABDO), frame):
            answer = client.get(address)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login")


def test_descriptions_are_listed_by_frequency_with_frames_and_the_look_is_audited(
    ann: TestClient, desk: LabelDesk
) -> None:
    page = ann.get("/labels").text
    assert page.index(ABDO) < page.index(HEART)
    assert "THYROID" not in page
    assert "3 descriptions that no table knows, in 4 studies" in page
    assert page.count('alt="Sample frame ') == 4 + 1
    assert "none in the store" in page
    assert "US THYROID BIOPSY" in ann.get("/labels?mapped=1").text
    app: Any = ann.app
    journal = app.state.desk.journal
    rows = [(row.name, row.action, row.object) for row in journal.latest(9)]
    assert ("ann", "study descriptions listed", "not mapped") in rows
    ann.get(_of(desk, XSS))
    assert journal.latest(1)[0].object == desk.token(XSS)
    assert "DOE" not in repr(journal.latest(99))


def test_what_somebody_typed_is_escaped(ann: TestClient, desk: LabelDesk) -> None:
    for address in ("/labels", _of(desk, XSS)):
        page = ann.get(address).text
        assert "&lt;SCRIPT&gt;ALERT(" in page
        assert "<SCRIPT>" not in page
    _decide(ann, _of(desk, XSS), none="1")
    assert "<SCRIPT>" not in ann.get("/labels/history").text
    assert "<SCRIPT>" not in ann.get(_of(desk, ABDO)).text


def test_a_viewer_sees_pictures_and_counts_and_neither_words_nor_forms(
    config: Config, desk: LabelDesk
) -> None:
    desk.notes.book.decide(DESCRIPTION, HEART, frozenset(), who="ann")
    with browser(config) as client:
        log_in(client, Role.VIEWER)
        for address in ("/labels", "/labels?mapped=1", _of(desk, ABDO), "/labels/history"):
            page = client.get(address).text
            assert not re.search("ABDO|HEART|THYROID BIOPSY|DOE", page), address
        page = client.get(_of(desk, ABDO)).text
        assert page.count('alt="Sample frame ') == 4
        assert 'name="groups"' not in page
        csrf = token_on(client, "/labels")
        for address in (_of(desk, ABDO), "/labels/undo"):
            answer = client.post(address, data={"csrf": csrf, "none": "1", "version": "0"})
            assert answer.status_code == 403
    assert len(desk.notes.book.history()) == 1


def test_a_decision_is_in_the_store_and_leads_to_the_next_description(
    ann: TestClient, desk: LabelDesk
) -> None:
    answer = _decide(ann, _of(desk, ABDO), "abdomen", "kidney")
    assert answer.status_code == 303
    assert _groups(desk) == [{"abdomen", "kidney"}] * 4
    line = desk.notes.book.history()[0]
    assert (line.who, line.words, line.is_applied) == ("ann", ABDO, True)
    following = ann.get(answer.headers["location"]).text
    assert "Your last decision: <q>US ABDO</q> is abdomen, kidney." in following
    for _ in (XSS, HEART):
        answer = _decide(ann, answer.headers["location"], none="1")
    assert answer.headers["location"] == "/labels"
    assert "Every study description that came is mapped" in ann.get("/labels").text
    mapped = ann.get("/labels?mapped=1").text
    assert "none of the eight" in mapped
    assert "decision" in mapped
    assert {desk.notes.decisions()[DESCRIPTION, words.upper()] for words in (XSS, HEART)} == {
        frozenset()
    }


def test_undo_brings_back_what_held_and_shows_it(ann: TestClient, desk: LabelDesk) -> None:
    _decide(ann, _of(desk, ABDO), "liver")
    _decide(ann, _of(desk, ABDO), "kidney")
    assert _groups(desk) == [{"kidney"}] * 4
    first, second = (desk.notes.book.history()[place].number for place in (1, 0))
    answer = _undo(ann, second)
    assert answer.headers["location"] == _of(desk, ABDO)
    assert _groups(desk) == [{"liver"}] * 4
    assert "It stands for <strong>liver</strong>" in ann.get(_of(desk, ABDO)).text
    assert _undo(ann, first).status_code == 303
    assert _groups(desk) == []
    assert ABDO in ann.get("/labels").text
    again = _undo(ann, first)
    assert again.status_code == 409
    assert "undone already" in again.text
    history = ann.get("/labels/history").text
    assert f"undoes {second}" in history
    assert history.count("<tr") == 1 + 4
    assert f"dicom-node {__version__}." in ann.get(_of(desk, ABDO)).text


def test_the_second_of_two_who_decide_sees_what_the_first_did_and_overwrites_nothing(
    ann: TestClient, config: Config, desk: LabelDesk
) -> None:
    at = _of(desk, ABDO)
    with browser(config) as ben:
        log_in(ben, Role.LABELLER, "ben")
        seen = {"csrf": token_on(ben, at), "version": "0"}
        _decide(ann, at, "abdomen")
        answer = ben.post(at, data={**seen, "groups": ["liver", "kidney"]})
        assert answer.status_code == 409
        assert "ann decided first" in answer.text
        assert "ann says abdomen" in answer.text
        assert set(re.findall(r'value="(\w+)" data-key="\d" checked', answer.text)) == {
            "liver",
            "kidney",
        }
        assert _groups(desk) == [{"abdomen"}] * 4
        version = re.findall(r'name="version" value="(\d+)"', answer.text)[0]
        again = ben.post(at, data={**seen, "version": version, "groups": ["liver"]})
        assert again.status_code == 303
        assert "Your last decision: <q>US ABDO</q> is liver." in ben.get(_of(desk, HEART)).text
    assert "Your last decision" not in ann.get(_of(desk, HEART)).text
    assert _groups(desk) == [{"liver"}] * 4
    assert [line.who for line in desk.notes.book.history()] == ["ben", "ann"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 422, "Choose groups, or"),
        ({"groups": "liver", "none": "1"}, 422, "Choose groups, or"),
        ({"groups": "heart"}, 422, "no such group"),
        ({"groups": "liver", "version": "x"}, 400, "load the page anew"),
        ({"groups": "liver", "csrf": "x"}, 403, "too old"),
    ],
)
def test_a_form_that_says_nothing_changes_nothing(
    ann: TestClient, desk: LabelDesk, fields: dict[str, str], status: int, words: str
) -> None:
    at = _of(desk, ABDO)
    sent = {"csrf": token_on(ann, at), "version": "0"} | fields
    answer = ann.post(at, data=sent)
    assert (answer.status_code, words in answer.text) == (status, True)
    assert desk.notes.book.history() == []


def test_a_frame_is_given_whole_or_small_and_only_by_its_digest(
    config: Config, desk: LabelDesk, ann: TestClient
) -> None:
    describe(desk, [("9", "US LARGE", 1)], size=(400, 600))
    found = {frame.height: frame.frame_id for frame in desk.store.frames()}
    for address, size in (("", (600, 400)), ("?small=1", (192, 128))):
        answer = ann.get(f"/frames/{found[400]}.png{address}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "no-store"
        assert Image.open(BytesIO(answer.content)).size == size
    for name in ("0" * 64, "..%2f..%2fharvest.db", "x"):
        assert ann.get(f"/frames/{name}.png").status_code == 404
    (config.node.data / "store" / "frames" / found[40][:2] / f"{found[40]}.png").unlink()
    assert ann.get(f"/frames/{found[40]}.png").status_code == 404


def test_words_that_were_erased_are_no_page_any_more(ann: TestClient, desk: LabelDesk) -> None:
    at = _of(desk, HEART)
    assert ann.get(at).status_code == 200
    desk.notes.erase(["1.2.4"])
    assert ann.get(at).status_code == 404


def test_before_the_first_harvest_the_page_says_so(tmp_path: Path) -> None:
    with browser(blank_in(tmp_path)) as client:
        log_in(client, Role.LABELLER)
        for address in ("/labels", "/labels/history"):
            assert "Nothing was harvested yet" in client.get(address).text
        assert client.get(f"/labels/words/{'0' * 32}").status_code == 404
        assert client.get(f"/frames/{'0' * 64}.png").status_code == 404


def test_what_was_decided_and_not_applied_is_applied_when_the_page_starts(
    config: Config, desk: LabelDesk
) -> None:
    desk.notes.book.decide(DESCRIPTION, ABDO, frozenset({"chest"}), who="ann")
    with browser(config) as client:
        log_in(client, Role.VIEWER)
        client.get("/labels")
    # the page ends when the work behind it has ended
    assert desk.notes.book.unapplied() == []
    assert _groups(desk) == [{"chest"}] * 4
