"""What the store holds, as a plot and as a table, for who asks whether it is enough."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.harvest.coverage import counted
from dicom_node.harvest.coverage_plot import COLOURS, plotted
from dicom_node.page.access import allowed
from dicom_node.page.label_desks import desk_in
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role
from dicom_node.records import Task


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/coverage", _coverage, methods=["GET"]),
        Route("/coverage.svg", _plot, methods=["GET"]),
    ]


@allowed(Role.VIEWER)
def _coverage(request: Request) -> Response:
    desk = desk_in(request)
    if desk is None:
        return render(request, "coverage.html", info=None)
    info, table = desk.store.info(), counted(desk.store)
    geometries = [one.value for one in COLOURS if any(one in row for row in table.values())]
    return render(
        request,
        "coverage.html",
        info=info,
        table=sorted(table.items()),
        geometries=geometries,
        readers={"quality": info.labelled[Task.QUALITY], **info.by_label_set, **info.by_class},
    )


@allowed(Role.VIEWER)
def _plot(request: Request) -> Response:
    desk = desk_in(request)
    drawing = plotted({} if desk is None else counted(desk.store))
    return Response(drawing, media_type="image/svg+xml")
