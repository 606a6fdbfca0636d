"""The studies, each with its whole story."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [Route("/studies", _list, methods=["GET"])]


@allowed(Role.VIEWER)
def _list(request: Request) -> Response:
    return render(request, "studies.html", studies=desk_of(request).books.index.studies(25))
