"""The page as an ASGI application: routes of every module, one guard before them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dicom_node import log
from dicom_node.config import Config
from dicom_node.errors import ConfigError, NodeError, PermanentError
from dicom_node.page import bundles, coverage, frames, health, images, labels, login, queue, studies
from dicom_node.page.access import allowed
from dicom_node.page.desk import Desk
from dicom_node.page.headers import HEADERS, Guard
from dicom_node.page.label_desks import LabelDesks
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role

#: Handlers run in so many threads; each may read the databases.
THREADS: Final = 8
_MODULES: Final = (login, studies, images, queue, health, labels, frames, coverage, bundles)
_STATIC: Final = Path(__file__).with_name("static")


def make_app(config: Config) -> Starlette:
    """Return the page of a configuration; its databases are closed when it ends."""
    desk, label_desks = Desk(config), LabelDesks(config)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        try:
            yield
        finally:
            label_desks.close()
            desk.close()

    app = Starlette(
        routes=[
            Route("/", _front),
            *(route for module in _MODULES for route in module.routes()),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Guard, desk=desk)],
        exception_handlers={
            HTTPException: _refused,
            NodeError: _impossible,
            Exception: _failed,
        },
        lifespan=lifespan,
    )
    app.state.desk, app.state.label_desks = desk, label_desks
    return app


@allowed(Role.VIEWER)
def _front(_: Request) -> Response:
    return RedirectResponse("/studies", 303)


def _refused(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    detail = exc.detail if isinstance(exc, HTTPException) else ""
    headers = exc.headers if isinstance(exc, HTTPException) else None
    phrase = HTTPStatus(status).phrase
    words = "there is no such page" if status == 404 and detail == phrase else detail
    answer = render(request, "error.html", status=status, title=phrase, words=words)
    answer.headers.update(headers or {})
    return answer


def _impossible(request: Request, exc: Exception) -> Response:
    """Tell what the node says of itself, with its cure."""
    status = 400 if isinstance(exc, PermanentError) else 503
    title = "Not ready yet" if isinstance(exc, ConfigError) else "That did not work"
    return render(request, "error.html", status=status, title=title, words=str(exc))


def _failed(request: Request, exc: Exception) -> Response:
    """Answer for a fault of this program; what it says may quote a data set."""
    log.get("page").error("page failed", cause=type(exc).__name__, where=log.place_of(exc))
    words = "This is a fault of the program: report it, with the line 'page failed' of the log."
    answer = render(request, "error.html", status=500, title="Something broke", words=words)
    # starlette sends this one past the guard
    answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
    return answer
