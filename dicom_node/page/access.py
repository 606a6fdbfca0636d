"""Who asks, and whether they may: every handler stands behind `allowed`."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from ipaddress import ip_address
from typing import Final, TypeAlias
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.page.desk import Desk, desk_of
from dicom_node.page.forms import Form, read_form
from dicom_node.page.sessions import SessionRow
from dicom_node.page_settings import Role

COOKIE: Final = "dicom_node_session"

Handler: TypeAlias = Callable[[Request], Response]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who is logged in."""

    name: str
    role: Role
    session: SessionRow


def allowed(role: Role) -> Callable[[Handler], Endpoint]:
    """Let a plain function answer, in a thread, who is logged in with this role or a higher one.

    It finds ``request.state.visitor`` (`Visitor`), and in a POST, whose CSRF token was right,
    ``request.state.form`` (`Form`).
    """

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        async def endpoint(request: Request) -> Response:
            form = await read_form(request) if request.method == "POST" else None
            return await run_in_threadpool(_answer, handler, role, request, form)

        return endpoint

    return decorate


def visitor_of(request: Request) -> Visitor:
    """Return who asks; for handlers behind `allowed`."""
    found = request.state.visitor
    assert isinstance(found, Visitor)  # noqa: S101 - for the reader and the type checker
    return found


def form_of(request: Request) -> Form:
    """Return the form of a POST; for handlers behind `allowed`."""
    found = request.state.form
    assert isinstance(found, Form)  # noqa: S101 - for the reader and the type checker
    return found


def audit(request: Request, action: str, of: str = "") -> None:
    """Write down what the visitor does; `of` names no patient."""
    desk_of(request).journal.write(visitor_of(request).name, action, of, address_of(request))


def note(request: Request, words: str, *, kind: str = "good") -> None:
    """Let the next page tell the visitor something; `kind` is good or bad."""
    desk_of(request).sessions.note(visitor_of(request).session, kind, words)


def address_of(request: Request) -> str:
    """Return from where somebody asks; of who comes through a trusted proxy, what it says."""
    peer, proxy = _peer(request), desk_of(request).settings.trusted_proxy
    if proxy is None or peer not in proxy.addresses:
        return peer
    # the last one was written by the proxy itself, those before it by anybody
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return str(ip_address(told))
    except ValueError:
        return peer


def proxied_name(request: Request) -> str | None:
    """Return who a trusted proxy says that it is, None when none says anything."""
    proxy = desk_of(request).settings.trusted_proxy
    if proxy is None or _peer(request) not in proxy.addresses:
        return None
    names = request.headers.getlist(proxy.header)
    return names[0] if len(names) == 1 and names[0] else None


def role_of(desk: Desk, name: str, *, is_by_proxy: bool) -> Role | None:
    """Return the role that somebody has now, None when they may not come in."""
    user = desk.users.find(name)
    if user is not None:
        return user.role
    proxy = desk.settings.trusted_proxy
    return proxy.role if is_by_proxy and proxy is not None else None


def find_visitor(request: Request) -> Visitor | None:
    """Return who is logged in, None when nobody is."""
    desk = desk_of(request)
    session = desk.sessions.find(request.cookies.get(COOKIE, ""))
    if session is None:
        return None
    # behind a proxy the log-in is the proxy's: who it names now is who asks
    if session.is_by_proxy and proxied_name(request) != session.name:
        return None
    role = role_of(desk, session.name, is_by_proxy=session.is_by_proxy)
    return None if role is None else Visitor(name=session.name, role=role, session=session)


def _answer(handler: Handler, role: Role, request: Request, form: Form | None) -> Response:
    visitor = find_visitor(request)
    if visitor is None:
        target = request.url.path if request.method == "GET" else "/"
        if request.url.query and request.method == "GET":
            target = f"{target}?{request.url.query}"
        return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)
    request.state.visitor = visitor
    if not visitor.role.includes(role):
        raise HTTPException(
            403,
            f"this needs the role {role}, and {visitor.name} is {visitor.role}; who runs the node "
            "can change that with 'dicom-node page user add'",
        )
    if form is not None:
        check_csrf(form, visitor.session.csrf)
        request.state.form = form
    return handler(request)


def check_csrf(form: Form, expected: str) -> None:
    """Refuse a form that does not come from this page; raises HTTPException."""
    if not expected or not secrets.compare_digest(form.get("csrf").encode(), expected.encode()):
        raise HTTPException(403, "the form is too old, or not of this page; load the page anew")


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""
