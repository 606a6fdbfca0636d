"""Whether the node is well, and what needs a look; who did what on the page."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books import overview
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [Route("/health", _show, methods=["GET"])]


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    return render(request, "health.html", found=overview.collect(desk_of(request).config))
