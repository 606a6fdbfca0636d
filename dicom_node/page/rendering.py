"""Templates, and what all of them know."""

from functools import cache
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dicom_node import __version__
from dicom_node.books.where import clock, many
from dicom_node.page.access import Visitor
from dicom_node.page.desk import desk_of
from dicom_node.page_settings import Role


class Section(NamedTuple):
    """An entry of the menu."""

    path: str
    label: str
    role: Role


#: The menu, in order.
SECTIONS: Final = (
    Section("/studies", "Studies", Role.VIEWER),
    Section("/queue", "Queue", Role.VIEWER),
    Section("/labels", "Labels", Role.VIEWER),
    Section("/coverage", "Coverage", Role.VIEWER),
    Section("/models", "Models", Role.VIEWER),
    Section("/health", "Health", Role.VIEWER),
    Section("/audit", "Audit", Role.ADMIN),
)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    Every template knows ``visitor`` (None before the log-in), ``sections``, ``path``, ``notes``,
    ``csrf_field`` for its forms, and `values`; text is escaped.
    """
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    notes: tuple[tuple[str, str], ...] = ()
    if visitor is not None and visitor.session.notes:
        notes = visitor.session.notes
        desk_of(request).sessions.told(visitor.session)
    shown = {
        "visitor": visitor,
        "sections": [one for one in SECTIONS if visitor and visitor.role.includes(one.role)],
        "path": request.url.path,
        "notes": notes,
        "csrf_field": csrf_field(visitor.session.csrf if visitor else ""),
        "version": __version__,
    }
    return HTMLResponse(_environment().get_template(template).render(shown | values), status)


def csrf_field(token: str) -> Markup:
    """Return the hidden field that every form has."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dicom_node.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(clock=clock, many=many, size=_size)
    return made


def _size(size_bytes: float) -> str:
    """Return a size as a person reads it."""
    is_large = size_bytes >= 2**30
    return f"{size_bytes / 2**30:.1f} GiB" if is_large else f"{size_bytes / 2**20:.1f} MiB"
