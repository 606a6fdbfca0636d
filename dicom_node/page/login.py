"""Log in, by password or through a trusted proxy, and log out."""

import secrets
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicom_node.page.access import (
    COOKIE,
    address_of,
    allowed,
    audit,
    check_csrf,
    find_visitor,
    proxied_name,
    role_of,
    visitor_of,
)
from dicom_node.page.desk import desk_of
from dicom_node.page.forms import Form, read_form
from dicom_node.page.rendering import csrf_field, render
from dicom_node.page.users import LONGEST_NAME
from dicom_node.page_settings import Role

#: Of the log-in form, before there is a session.
BEFORE: Final = "dicom_node_before"
_WRONG: Final = "Name or password is wrong."


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/login", _show, methods=["GET"]),
        Route("/login", _take, methods=["POST"]),
        Route("/logout", _leave, methods=["POST"]),
    ]


def first_user(request: Request) -> str:
    """Say how the first user is made, "" when there is one."""
    desk = desk_of(request)
    return "" if desk.settings.trusted_proxy or desk.users.all() else FIRST_USER


FIRST_USER: Final = "dicom-node page user add NAME --role admin"


async def _show(request: Request) -> Response:
    return await run_in_threadpool(_shown, request)


async def _take(request: Request) -> Response:
    return await run_in_threadpool(_taken, request, await read_form(request))


def _shown(request: Request) -> Response:
    target = _local(request.query_params.get("next", ""))
    if find_visitor(request) is not None:
        return RedirectResponse(target, 303)
    desk, name = desk_of(request), proxied_name(request)
    if name is not None:
        if role_of(desk, name, is_by_proxy=True) is None:
            raise HTTPException(
                403, f"{name} may not come in; 'dicom-node page user add' lets somebody in"
            )
        # a page that leads on, and no redirection: a browser that came by a link of another site
        # sends no SameSite=Strict cookie to where it is redirected, and would come back for ever
        welcome = render(request, "welcome.html", name=name, target=target)
        return _let_in(request, name, welcome, is_by_proxy=True)
    return _form(request, target)


def _taken(request: Request, form: Form) -> Response:
    check_csrf(form, request.cookies.get(BEFORE, ""))
    desk, target = desk_of(request), _local(form.get("next"))
    name, host = form.get("name")[:LONGEST_NAME], address_of(request)
    # a guesser is slowed down by his address, and many addresses by the name that they try
    askers = (f"address {host}", f"name {name}")
    wait_s = max(desk.attempts.take(asker) for asker in askers)
    if wait_s:
        raise HTTPException(
            429,
            f"too many attempts; wait {wait_s:.0f} seconds",
            headers={"Retry-After": f"{wait_s + 1:.0f}"},
        )
    if not desk.users.is_right(name, form.get("password")):
        # what was typed as a name may be a password
        known = name if desk.users.find(name) is not None else "(unknown name)"
        desk.journal.write(known, "log-in refused", "", host)
        return _form(request, target, name=name, fault=_WRONG, status=401)
    for asker in askers:
        desk.attempts.give_back(asker)
    return _let_in(request, name, RedirectResponse(target, 303))


@allowed(Role.VIEWER)
def _leave(request: Request) -> Response:
    audit(request, "logged out")
    desk_of(request).sessions.close(visitor_of(request).session)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _let_in(
    request: Request, name: str, answer: Response, *, is_by_proxy: bool = False
) -> Response:
    """Begin a session with an answer."""
    desk = desk_of(request)
    token = desk.sessions.open(name, is_by_proxy=is_by_proxy)
    desk.journal.write(name, "logged in", "", address_of(request))
    _set_cookie(request, answer, COOKIE, token, path="/")
    answer.delete_cookie(BEFORE, path="/login", httponly=True, samesite="strict")
    return answer


def _form(
    request: Request, target: str, *, name: str = "", fault: str = "", status: int = 200
) -> Response:
    token = request.cookies.get(BEFORE) or secrets.token_urlsafe(32)
    answer = render(
        request,
        "login.html",
        status=status,
        csrf_field=csrf_field(token),
        target=target,
        name=name,
        fault=fault,
        first_user=first_user(request),
    )
    _set_cookie(request, answer, BEFORE, token, path="/login")
    return answer


def _set_cookie(request: Request, answer: Response, name: str, token: str, *, path: str) -> None:
    answer.set_cookie(
        name,
        token,
        path=path,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or _is_https_before(request),
    )


def _is_https_before(request: Request) -> bool:
    """Whether a trusted proxy says that it was asked over TLS."""
    proxy = desk_of(request).settings.trusted_proxy
    peer = request.client.host if request.client is not None else ""
    told = request.headers.get("x-forwarded-proto", "")
    return proxy is not None and peer in proxy.addresses and told == "https"


def _local(target: str) -> str:
    """Return an address of this page, and never one of another."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\", "/login"))
    return target if is_local and target.isprintable() else "/studies"
