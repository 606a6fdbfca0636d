"""Pictures of a study: what the models found, drawn over what they saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.books.opened import Books
from dicom_node.node.layout import Layout
from dicom_node.outbox.trail import PassedRow
from dicom_node.page.access import allowed
from dicom_node.page.desk import desk_of
from dicom_node.page.pictures import LARGE_PX, SMALL_PX
from dicom_node.page.rendering import render
from dicom_node.page_settings import Role
from dicom_node.records import Instance, ResultKind
from dicom_node.results.said import said_in
from dicom_node.sop_classes import ULTRASOUND_IMAGES

#: Images that the page of a study shows; the others are a link away.
SHOWN: Final = 24
_WIDTHS: Final = {"small": SMALL_PX, "large": LARGE_PX}
_IMAGE: Final = "/studies/{study}/images/{image}"


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """An ultrasound image of a study."""

    instance: Instance
    #: how many objects that passed the gate speak of it
    results: int
    #: the SEGs of the last version on it
    segmentations: tuple[Path, ...]
    #: the reports of the last version on it
    reports: tuple[Path, ...]


def routes() -> list[Route]:
    """Return the addresses of this module."""
    return [
        Route(_IMAGE, _show, methods=["GET"]),
        Route(f"{_IMAGE}/{{width}}.png", _picture, methods=["GET"]),
        Route(f"{_IMAGE}/{{frame:int}}/{{width}}.png", _picture, methods=["GET"]),
    ]


def images_of(books: Books, study: str) -> list[ImageRow]:
    """Return the ultrasound images of a study, in the order of their arrival."""
    # what a model in the shadow says is sent to nobody, and shown to nobody beside what is
    shadow = {row.sop_instance_uid for row in books.outbox.shadow_results(study)}
    trail = books.outbox.trail.passed(study)
    passed = [row for row in trail if row.sop_instance_uid not in shadow]
    folder = Layout(books.config.node.data).results
    return [
        _row(instance, [row for row in passed if instance.sop_instance_uid in row.images], folder)
        for instance in books.index.instances(study)
        if instance.sop_class_uid in ULTRASOUND_IMAGES
    ]


def _row(instance: Instance, results: Sequence[PassedRow], folder: Path) -> ImageRow:
    return ImageRow(
        instance=instance,
        results=len(results),
        segmentations=_last(results, ResultKind.SEG, folder),
        reports=_last(results, ResultKind.SR, folder),
    )


def _last(results: Sequence[PassedRow], kind: ResultKind, folder: Path) -> tuple[Path, ...]:
    """Return the files of the last version of a kind."""
    rows = [row for row in results if row.kind is kind]
    last = max((row.version for row in rows), default=0)
    return tuple(sorted(folder / row.file_name for row in rows if row.version == last))


@allowed(Role.VIEWER)
def _show(request: Request) -> Response:
    row, rows = _found(request)
    legend = desk_of(request).pictures.legend(row.instance, row.segmentations)
    asked = request.query_params.get("frame", "")
    frame = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else legend.first
    if not 1 <= frame <= legend.number_of_frames:
        raise HTTPException(404, f"the image has {legend.number_of_frames} frames")
    place = [one.instance.sop_instance_uid for one in rows].index(row.instance.sop_instance_uid)
    return render(
        request,
        "image.html",
        study=request.path_params["study"],
        row=row,
        place=place + 1,
        count=len(rows),
        before=rows[place - 1].instance.sop_instance_uid if place else "",
        after=rows[place + 1].instance.sop_instance_uid if place + 1 < len(rows) else "",
        legend=legend,
        frame=frame,
        scored=[one for path in row.reports for one in said_in(path) if one.score is not None],
    )


@allowed(Role.VIEWER)
def _picture(request: Request) -> Response:
    width = _WIDTHS.get(request.path_params["width"])
    if width is None:
        raise HTTPException(404, f"there are {', '.join(_WIDTHS)}")
    row, _ = _found(request)
    frame = request.path_params.get("frame")
    code = desk_of(request).pictures.png(row.instance, row.segmentations, frame, width)
    return Response(code, media_type="image/png")


def _found(request: Request) -> tuple[ImageRow, list[ImageRow]]:
    rows = images_of(desk_of(request).books, request.path_params["study"])
    for row in rows:
        if row.instance.sop_instance_uid == request.path_params["image"]:
            return row, rows
    raise HTTPException(404, "there is no such image in this study")
