"""Whether the node is well, what needs a look, and who did what on the page."""

from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books import overview
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.journal import LONGEST
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
    word = request.query_params.get("before", "")
    before = int(word) if word.isascii() and word.isdigit() and len(word) < 19 else None
    part = request.query_params.get("part", "").strip()[:LONGEST]
    rows = desk_of(request).journal.latest(PAGE + 1, before, part)
    found: dict[str, Any] = {"rows": rows[:PAGE], "is_first": before is None, "part": part}
    found["more"] = ""
    if len(rows) > PAGE:
        asked = {"before": str(rows[PAGE - 1].serial), "part": part}
        found["more"] = "/audit?" + urlencode({key: one for key, one in asked.items() if one})
    return render(request, "audit.html", **found)
