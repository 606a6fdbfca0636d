"""Queue, health and audit on the page."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from starlette.testclient import TestClient

from dicom_node.books.opened import open_books
from dicom_node.outbox import DeliveryState
from dicom_node.page_settings import Role
from tests.support.page import browser, log_in, post
from tests.support.page_site import REFUSED, Site, dead

JOB = "study:1.2.3:1:1767225600.000000"


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with browser(site.config) as client:
        log_in(client, Role.ADMIN)
        yield client


def last_audit(client: TestClient) -> tuple[str, str]:
    [row] = client.app.state.desk.journal.latest(1)  # type: ignore[attr-defined]
    return row.action, row.object


def test_the_queue_says_what_failed_and_why(client: TestClient, site: Site) -> None:
    text = client.get("/queue").text
    assert "2 given up" in text
    assert text.count(site.refused) == 4, "two objects, each with its link"
    assert site.delivered not in text, "that is done"
    assert text.count(REFUSED) == 2
    assert "PACS@127.0.0.1:1" in text
    assert "2 of 2" in text
    assert client.get("/queue?state=waiting").text.count(site.refused) == 0
    assert client.get("/queue?destination=other").text.count(site.refused) == 0


def test_a_viewer_reads_the_queue_and_has_no_buttons(client: TestClient) -> None:
    log_in(client, Role.VIEWER)
    text = client.get("/queue").text
    assert "2 given up" in text
    assert '<form method="post" action="/queue' not in text
    assert client.get("/queue/drop?destination=pacs").status_code == 403


def test_a_retry_makes_dead_letters_due_says_so_once_and_is_written_down(
    client: TestClient, site: Site
) -> None:
    answer = post(client, "/queue", "/queue/retry", destination="pacs")
    assert answer.headers["location"] == "/queue?destination=pacs"
    assert "2 deliveries are tried now." in client.get("/queue").text
    assert "tried now" not in client.get("/queue").text
    assert dead(site.config) == 0
    assert last_audit(client) == ("retried deliveries", "pacs")


def test_dead_letters_are_dropped_after_a_question(client: TestClient, site: Site) -> None:
    assert client.get("/queue/drop?destination=nowhere").status_code == 404
    question = client.get("/queue/drop?destination=pacs").text
    assert "Drop 2 dead letters for pacs?" in question
    assert post(client, "/queue", "/queue/drop").status_code == 400, "which?"
    assert dead(site.config) == 2
    with closing(open_books(site.config)) as books:
        rows = books.outbox.rows(DeliveryState.DEAD)
    post(client, "/queue/drop?destination=pacs", "/queue/drop", destination="pacs")
    assert "2 dead letters dropped" in client.get("/queue").text
    assert dead(site.config) == 0
    assert last_audit(client) == ("dropped dead letters", "pacs")
    assert all(
        (site.config.node.data / "results").rglob(f"{row.sop_instance_uid}.dcm") for row in rows
    )


def test_a_job_is_cancelled_and_run_again(client: TestClient, site: Site) -> None:
    with closing(open_books(site.config)) as books:
        books.jobs.enqueue("study", JOB, ["1.2.3", "1"])
    assert JOB in client.get("/queue").text
    post(client, "/queue", "/queue/jobs/cancel", job=JOB)
    text = client.get("/queue").text
    assert "Cancelled jobs" in text
    assert last_audit(client) == ("cancelled a job", JOB)
    post(client, "/queue", "/queue/jobs/retry", job=JOB)
    assert "Cancelled jobs" not in client.get("/queue").text
    refused = post(client, "/queue", "/queue/jobs/retry", job="nonsense")
    assert refused.status_code == 400
    assert "no job &#39;nonsense&#39;" in refused.text


def test_health_tells_what_needs_a_look_with_its_cure(client: TestClient) -> None:
    text = client.get("/health").text
    assert "2 results given up for pacs" in text
    assert "was not asked how it is" in text, "web: is not in the configuration"
    assert "3</span>instances" in text
    assert "not yet registered" in text


def test_the_audit_is_read_page_by_page(client: TestClient) -> None:
    journal = client.app.state.desk.journal  # type: ignore[attr-defined]
    for number in range(150):
        journal.write("ann", "did", f"thing {number}", "192.0.2.1")
    first = client.get("/audit").text
    assert first.count("thing ") == 100
    [address] = {part.split('"')[0] for part in first.split('href="/audit?before=')[1:]}
    second = client.get(f"/audit?before={address}").text
    assert second.count("thing ") == 50
    assert "thing 149<" in first
    assert "thing 0<" in second


def test_the_audit_is_searched_for_a_part_of_whom_what_and_of_what(client: TestClient) -> None:
    journal = client.app.state.desk.journal  # type: ignore[attr-defined]
    for number in range(101):
        journal.write("ben", "looked at the patient", f"1.2.{number}", "192.0.2.1")
    journal.write("ann", "did", "100%", "192.0.2.1")
    for part, count in {"ben": 100, "looked": 100, "1.2.77": 1, "0%": 1, "_": 0}.items():
        shown = client.get("/audit", params={"part": part}).text
        assert shown.count("192.0.2.1") == count, part
    assert "Nothing that was written down" in shown
    first = client.get("/audit?part=looked").text
    [address] = {part.split('"')[0] for part in first.split('href="/audit?before=')[1:]}
    assert address.endswith("part=looked")
    earlier = client.get(f"/audit?before={address}".replace("&amp;", "&")).text
    assert earlier.count("192.0.2.1") == 1
