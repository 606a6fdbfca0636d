"""The label map: study descriptions that no table knows, with pictures, and who decided what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicom_node.errors import ConfigError, OvertakenError
from dicom_node.harvest.decisions import Decision
from dicom_node.harvest.desk import DESCRIPTION, LabelDesk, MetDescription
from dicom_node.page.access import allowed, audit, form_of, visitor_of
from dicom_node.page.forms import Form
from dicom_node.page.label_desks import desk_in, desks_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role
from dicom_node.records import GROUPS

#: Of a list, on one page.
LISTED: Final = 25
#: Sample frames of a description, in the list and alone.
FEW: Final = 4
MANY: Final = 8


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """How a form is shown again: what was chosen, and why it was not saved."""

    chosen: frozenset[str] | None
    overtaken: Decision | None = None
    fault: str = ""
    status: int = 200


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/labels", _descriptions, methods=["GET"]),
        Route("/labels/history", _history, methods=["GET"]),
        Route("/labels/undo", _undo, methods=["POST"]),
        Route("/labels/words/{token}", _words, methods=["GET"]),
        Route("/labels/words/{token}", _decide, methods=["POST"]),
    ]


@allowed(Role.VIEWER)
def _descriptions(request: Request) -> Response:
    desk = desk_in(request)
    if desk is None:
        return render(request, "labels/nothing.html", tab="open")
    mapped = request.query_params.get("mapped") == "1"
    found, page = desk.descriptions(mapped=mapped), _page(request)
    shown = found[page * LISTED : (page + 1) * LISTED]
    if _may_decide(request):
        audit(request, "study descriptions listed", "mapped" if mapped else "not mapped")
    return render(
        request,
        "labels/list.html",
        tab="mapped" if mapped else "open",
        mapped=mapped,
        descriptions=shown,
        samples={one.token: desk.samples(one.token, FEW) for one in shown},
        total=len(found),
        studies=sum(one.studies for one in found),
        page=page,
        more=len(found) > (page + 1) * LISTED,
        may_decide=_may_decide(request),
        stand_for=stand_for,
    )


@allowed(Role.VIEWER)
def _words(request: Request) -> Response:
    desk, found = _found(request)
    if _may_decide(request):
        audit(request, "study description shown", found.token)
    chosen = found.mapped.groups if found.mapped else None
    return _show_words(request, desk, found, _Answer(chosen=chosen))


@allowed(Role.LABELLER)
def _decide(request: Request) -> Response:
    desk, found = _found(request)
    form = form_of(request)
    chosen, fault = _chosen(form)
    if chosen is None:
        return _show_words(request, desk, found, _Answer(chosen=None, fault=fault, status=422))
    following = _following(desk.descriptions(), found)
    try:
        line = desk.notes.book.decide(
            DESCRIPTION,
            found.words,
            chosen,
            who=visitor_of(request).name,
            after=_number(form.get("version")),
        )
    except OvertakenError:
        latest = desk.notes.book.of(DESCRIPTION, found.words)[0]
        answer = _Answer(chosen=chosen, overtaken=latest, status=409)
        return _show_words(request, desk, found, answer)
    audit(request, "study description decided", f"{found.token} decision {line.number}")
    desks_of(request).apply(desk)
    return RedirectResponse(f"/labels/words/{following}" if following else "/labels", 303)


@allowed(Role.LABELLER)
def _undo(request: Request) -> Response:
    desk = desk_in(request)
    if desk is None:
        raise HTTPException(404, "nothing was harvested yet")
    number = _number(form_of(request).get("number"))
    try:
        line = desk.notes.book.undo(number, who=visitor_of(request).name)
    except (ConfigError, OvertakenError) as exc:
        return _show_history(request, desk, reason=str(exc), status=409)
    audit(request, "decision undone", f"decision {number}")
    desks_of(request).apply(desk)
    token = desk.token(line.words)
    is_shown = line.source is DESCRIPTION and desk.find(token) is not None
    return RedirectResponse(f"/labels/words/{token}" if is_shown else "/labels/history", 303)


@allowed(Role.VIEWER)
def _history(request: Request) -> Response:
    desk = desk_in(request)
    if desk is None:
        return render(request, "labels/nothing.html", tab="history")
    if _may_decide(request):
        audit(request, "label history listed")
    return _show_history(request, desk)


def stand_for(groups: frozenset[str] | None) -> str:
    """Say what words stand for."""
    if groups is None:
        return "nothing"
    return ", ".join(sorted(groups)) or "none of the eight"


def _show_history(
    request: Request, desk: LabelDesk, *, reason: str = "", status: int = 200
) -> Response:
    before = request.query_params.get("before")
    lines = desk.notes.book.history(before=_number(before) if before else None, most=LISTED + 1)
    return render(
        request,
        "labels/history.html",
        status=status,
        tab="history",
        reason=reason,
        lines=lines[:LISTED],
        with_words=True,
        more=len(lines) > LISTED,
        undoable=_undoable(desk, lines),
        may_decide=_may_decide(request),
        stand_for=stand_for,
    )


def _show_words(
    request: Request, desk: LabelDesk, found: MetDescription, answer: _Answer
) -> Response:
    book, visitor = desk.notes.book, visitor_of(request)
    lines = book.of(DESCRIPTION, found.words)
    unmapped = desk.descriptions()
    return render(
        request,
        "labels/words.html",
        status=answer.status,
        tab="mapped" if found.mapped else "open",
        found=found,
        key=(DESCRIPTION, found.words),
        left=len(unmapped),
        following=_following(unmapped, found),
        samples=desk.samples(found.token, MANY),
        # what the form was made from: who decides on it is told when it is no longer so
        seen=lines[0].number if lines else 0,
        all_groups=GROUPS,
        chosen=answer.chosen or frozenset(),
        chosen_none=answer.chosen == frozenset(),
        overtaken=answer.overtaken,
        fault=answer.fault,
        lines=lines,
        undoable=_undoable(desk, lines),
        with_words=False,
        last=_last(desk, visitor.name) if _may_decide(request) else None,
        may_decide=_may_decide(request),
        stand_for=stand_for,
    )


def _chosen(form: Form) -> tuple[frozenset[str] | None, str]:
    """Return the groups of a form, or None and what is wrong with it."""
    groups = frozenset(form.all("groups"))
    if not groups <= set(GROUPS):
        return None, f"There is no such group; known: {', '.join(GROUPS)}."
    if bool(groups) is bool(form.get("none")):
        return None, "Choose groups, or “none of these”."
    return groups, ""


def _following(unmapped: Sequence[MetDescription], found: MetDescription) -> str | None:
    """Return the pseudonym of the description that comes after one, None after the last one."""
    tokens = [one.token for one in unmapped]
    if found.token not in tokens:
        return tokens[0] if tokens else None
    place = tokens.index(found.token)
    others = tokens[place + 1 :] + tokens[:place]
    return others[0] if others else None


def _last(desk: LabelDesk, who: str) -> Decision | None:
    """Return somebody's last decision, None when another one took its place."""
    last = desk.notes.book.last_of(who)
    holds = last is not None and desk.notes.book.holding(*last.key) == last.number
    return last if holds else None


def _undoable(desk: LabelDesk, lines: Sequence[Decision]) -> frozenset[int]:
    """Return which lines can be undone: the last one on its words that holds."""
    numbers = (desk.notes.book.holding(*key) for key in {line.key for line in lines})
    return frozenset(number for number in numbers if number is not None)


def _found(request: Request) -> tuple[LabelDesk, MetDescription]:
    desk = desk_in(request)
    found = desk and desk.find(request.path_params["token"])
    if not desk or not found:
        raise HTTPException(404, "no study of the store is described so; it may have been erased")
    return desk, found


def _may_decide(request: Request) -> bool:
    return visitor_of(request).role.includes(Role.LABELLER)


def _page(request: Request) -> int:
    return _number(request.query_params.get("page", "0"))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HTTPException(400, "the address or the form has no number; load the page anew")
    return int(text)
