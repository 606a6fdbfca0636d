"""What is owed to destinations and what failed, and how it is tried again or forgotten."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicom_node.books import queue
from dicom_node.books.opened import Books
from dicom_node.books.where import many
from dicom_node.outbox import Backlog, DeliveryState
from dicom_node.page.access import allowed, audit, form_of, note
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role

#: Deliveries on one page, the latest change first.
SHOWN: Final = 200
#: How a state is called here, and its colour.
STATES: Final = {
    DeliveryState.DEAD: ("given up", "bad"),
    DeliveryState.WAITING: ("on the way", "wait"),
    DeliveryState.STORED: ("stored, not committed to", "wait"),
}


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/queue", _show, methods=["GET"]),
        Route("/queue/retry", _retry, methods=["POST"]),
        Route("/queue/drop", _ask_to_drop, methods=["GET"]),
        Route("/queue/drop", _drop, methods=["POST"]),
        Route("/queue/jobs/retry", _retry_job, methods=["POST"]),
        Route("/queue/jobs/cancel", _cancel_job, methods=["POST"]),
    ]


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    books, asked = desk_of(request).books, request.query_params
    state, destination = asked.get("state", ""), asked.get("destination", "")
    states = [one for one in STATES if state in ("", one.value)]
    backlogs = books.outbox.backlogs()
    found = queue.collect(
        books.outbox, books.jobs, states, destination=destination or None, limit=SHOWN
    )
    total = sum(
        one.count
        for one in backlogs
        if one.state in states and destination in ("", one.destination)
    )
    return render(
        request,
        "queue.html",
        destinations=[_destination(books, name, backlogs) for name in _names(books, backlogs)],
        chosen={"state": state, "destination": destination},
        states=STATES,
        total=total,
        **found,
    )


@allowed(Role.ADMIN)
def _retry(request: Request) -> Response:
    books, destination = desk_of(request).books, form_of(request).get("destination") or None
    audit(request, "retried deliveries", destination or "all destinations")
    count = books.outbox.retry(now=datetime.now(UTC), destination=destination)
    note(request, f"{_deliveries(count)} tried now.")
    return _back(destination)


@allowed(Role.ADMIN)
def _ask_to_drop(request: Request) -> Response:
    destination = request.query_params.get("destination", "")
    count = _dead(desk_of(request).books, destination)
    if not count:
        raise HTTPException(404, f"nothing was given up for {destination}")
    return render(request, "drop.html", destination=destination, count=count)


@allowed(Role.ADMIN)
def _drop(request: Request) -> Response:
    destination = form_of(request).get("destination")
    if not destination:
        raise HTTPException(400, "name the destination whose dead letters shall be forgotten")
    audit(request, "dropped dead letters", destination)
    count = desk_of(request).books.outbox.drop(destination=destination)
    note(request, f"{many(count, 'dead letter')} dropped; the objects stay in the results folder.")
    return _back(destination)


@allowed(Role.ADMIN)
def _retry_job(request: Request) -> Response:
    jobs, job_id = desk_of(request).books.jobs, form_of(request).get("job")
    audit(request, "retried a job", job_id)
    queue.retry_job(jobs, job_id)
    note(request, "The job runs again.")
    return _back(None)


@allowed(Role.ADMIN)
def _cancel_job(request: Request) -> Response:
    jobs, job_id = desk_of(request).books.jobs, form_of(request).get("job")
    audit(request, "cancelled a job", job_id)
    queue.cancel_job(jobs, job_id)
    note(request, "The job is cancelled; it can be retried from its first stage.")
    return _back(None)


def _destination(books: Books, name: str, backlogs: Sequence[Backlog]) -> dict[str, Any]:
    """Return how a destination stands."""
    counts = {one.state: one.count for one in backlogs if one.destination == name}
    outage = next((one for one in books.outbox.outages.all() if one.destination == name), None)
    configured = {one.name: one for one in books.config.destinations}
    return {
        "name": name,
        "address": configured[name].address if name in configured else "",
        "is_configured": name in configured,
        "counts": [(STATES[state], counts[state]) for state in STATES if state in counts],
        "dead": counts.get(DeliveryState.DEAD, 0),
        "outage": outage,
    }


def _names(books: Books, backlogs: Sequence[Backlog]) -> list[str]:
    names = [one.name for one in books.config.destinations]
    others = {one.destination for one in backlogs} - set(names)
    return [*names, *sorted(others)]


def _dead(books: Books, destination: str) -> int:
    return sum(
        one.count
        for one in books.outbox.backlogs()
        if one.destination == destination and one.state is DeliveryState.DEAD
    )


def _deliveries(count: int) -> str:
    return f"{count} delivery is" if count == 1 else f"{count} deliveries are"


def _back(destination: str | None) -> Response:
    query = f"?{urlencode({'destination': destination})}" if destination else ""
    return RedirectResponse(f"/queue{query}", 303)
