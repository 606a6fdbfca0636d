"""The models as cards: what they answer, how they are chosen, how those in the shadow compare."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books.cards import cards
from dicom_node.books.shadows import LOOKED_AT, SAME_SCORE, compared
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route("/models", _models, methods=["GET"]),
        Route("/models/{file}", _card, methods=["GET"]),
    ]


@allowed(Role.VIEWER)
def _models(request: Request) -> Response:
    desk = desk_of(request)
    return render(
        request,
        "models.html",
        cards=cards(desk.config),
        is_set=desk.config.bundles is not None,
        comparisons=compared(desk.books.outbox),
        looked_at=LOOKED_AT,
        same_score=SAME_SCORE,
    )


@allowed(Role.VIEWER)
def _card(request: Request) -> Response:
    wanted = request.path_params["file"]
    found = next((one for one in cards(desk_of(request).config) if one.file == wanted), None)
    if found is None:
        raise HTTPException(404, "no such file in the folder of bundles")
    return render(request, "model.html", card=found)
