"""Pictures of the store: de-identified frames, by their digest."""

import re
from io import BytesIO
from typing import Final

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.errors import StoreError
from dicom_node.page.access import allowed
from dicom_node.page.label_desks import desk_in
from dicom_node.page_settings import Role
from dicom_node.store import files

#: The smaller side of a picture in a list, in pixels.
SMALL: Final = 192
#: What a browser is given at most, of either side.
LARGE: Final = 1600
_FRAME_ID: Final = re.compile(r"[0-9a-f]{64}")


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [Route("/frames/{frame_id}.png", _frame, methods=["GET"])]


@allowed(Role.VIEWER)
def _frame(request: Request) -> Response:
    desk, frame_id = desk_in(request), request.path_params["frame_id"]
    if desk is None or not _FRAME_ID.fullmatch(frame_id) or not desk.store.has_frame(frame_id):
        raise HTTPException(404, "no such frame in the store; it may have been erased")
    try:
        pixels = desk.store.pixels(frame_id)
    except StoreError as exc:
        raise HTTPException(404, str(exc)) from None
    most = SMALL if request.query_params.get("small") else LARGE
    if max(pixels.shape) <= most:
        return Response(files.encoded(pixels), media_type="image/png")
    image, content = Image.fromarray(pixels), BytesIO()
    image.thumbnail((most, most))
    image.save(content, "PNG", compress_level=1)
    return Response(content.getvalue(), media_type="image/png")
