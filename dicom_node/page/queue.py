"""What is owed to destinations, and what failed."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books import queue
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [Route("/queue", _show, methods=["GET"])]


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    books = desk_of(request).books
    return render(request, "queue.html", **queue.collect(books.outbox, books.jobs))
