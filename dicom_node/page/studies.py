"""The studies: a list that stays fast, and the whole story of each."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books import story, study
from dicom_node.books.opened import Books
from dicom_node.books.where import facts_of, place_of
from dicom_node.index import StudyRow, StudyState
from dicom_node.index.paging import Place
from dicom_node.page.access import allowed, audit, visitor_of
from dicom_node.page.desk import desk_of
from dicom_node.page.images import images_of
from dicom_node.page.patients import patient_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role

#: Studies on one page of the list.
PAGE: Final = 25
#: A UID has at most 64 characters (PS3.5 9.1).
_LONGEST_PART: Final = 64


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/studies", _list, methods=["GET"]),
        Route("/studies/{study}", _show, methods=["GET"]),
        Route("/studies/{study}/patient", _show_patient, methods=["POST"]),
    ]


@allowed(Role.VIEWER)
def _list(request: Request) -> Response:
    books, asked = desk_of(request).books, request.query_params
    part = asked.get("part", "").strip().removeprefix("...")[:_LONGEST_PART]
    state = asked.get("state", "")
    found = books.index.paging.page(
        PAGE + 1,
        after=_place(asked.get("after", "")),
        state=StudyState(state) if state in {*StudyState} else None,
        part=part,
    )
    rows, more = found[:PAGE], len(found) > PAGE
    chosen = {"part": part, "state": state}
    return render(
        request,
        "studies.html",
        studies=[_row(books, row) for row in rows],
        counts=books.index.counts(),
        chosen=chosen,
        is_first="after" not in asked,
        first=f"/studies?{urlencode(chosen)}",
        more=f"/studies?{urlencode({**chosen, 'after': _word(rows[-1])})}" if more else "",
    )


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    return _study_page(request, patient=None)


@allowed(Role.VIEWER)
def _show_patient(request: Request) -> Response:
    uid = request.path_params["study"]
    if not _may_see_patients(request):
        raise HTTPException(
            403, "page.identity_for in the configuration says who may look at patients"
        )
    instances = desk_of(request).books.index.instances(uid)
    if not instances:
        raise HTTPException(404, "there is no such study")
    # written down before it is shown
    audit(request, "looked at the patient", uid)
    return _study_page(request, patient=patient_of(instances[0]))


def _study_page(request: Request, *, patient: Mapping[str, str] | None) -> Response:
    books, uid = desk_of(request).books, request.path_params["study"]
    if books.index.study(uid) is None:
        raise HTTPException(404, "there is no such study; it never came, or it was removed")
    found = study.tell(books, uid)
    return render(
        request,
        "study.html",
        found=found,
        kind=kind_of(found["where"]["word"]),
        steps=_grouped(found),
        images=images_of(books, uid),
        patient=patient,
        may_see_patient=_may_see_patients(request),
    )


def _may_see_patients(request: Request) -> bool:
    needed = desk_of(request).settings.identity_for
    return needed is not None and visitor_of(request).role.includes(needed)


def _grouped(found: Mapping[str, Any]) -> list[tuple[str, list[story.Line]]]:
    """Return the lines of each step."""
    steps: dict[str, list[story.Line]] = {}
    for line in story.steps(found):
        steps.setdefault(line.step, []).append(line)
    return list(steps.items())


def _row(books: Books, row: StudyRow) -> dict[str, Any]:
    facts = facts_of(row, books.config, outbox=books.outbox, jobs=books.jobs, now=datetime.now(UTC))
    place = place_of(facts)
    return {
        "uid": row.study_instance_uid,
        "last": row.last_received_at,
        "instances": row.instances,
        "word": place.word,
        "kind": kind_of(place.word),
        "sentence": place.sentence,
    }


def kind_of(word: str) -> str:
    """Return the colour of a place: whether a person has to do something."""
    if word in ("failed", "given up", "rejected", "cancelled"):
        return "bad"
    return "good" if word in ("delivered", "kept", "no result") else "wait"


def _word(row: StudyRow) -> str:
    place = Place.of(row)
    return f"{place.last_received_us}-{place.study_instance_uid}"


def _place(word: str) -> Place | None:
    at, _, uid = word.partition("-")
    if not (at.isascii() and at.isdigit() and len(at) < 20 and uid):
        return None
    return Place(last_received_us=int(at), study_instance_uid=uid)
