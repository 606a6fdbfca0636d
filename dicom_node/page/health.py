"""Whether the node is well, what needs a look, and who did what on the page."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books import overview
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role

#: Rows on one page of the audit.
PAGE: Final = 100


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [Route("/health", _show, methods=["GET"]), Route("/audit", _audit, methods=["GET"])]


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    return render(request, "health.html", found=overview.tell(desk_of(request).books))


@allowed(Role.ADMIN)
def _audit(request: Request) -> Response:
    asked = request.query_params.get("before", "")
    before = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 19 else None
    rows = desk_of(request).journal.latest(PAGE + 1, before)
    more = rows[PAGE - 1].serial if len(rows) > PAGE else None
    return render(request, "audit.html", rows=rows[:PAGE], more=more, is_first=before is None)
