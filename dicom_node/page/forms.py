"""What a browser sends with a form."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

#: A form of this page is much smaller.
MOST_BYTES: Final = 256 * 1024
_MOST_FIELDS: Final = 5000
_TYPE: Final = "application/x-www-form-urlencoded"


class Form:
    """Names and values of a form that was sent."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a name."""
        return self._values.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Return every value of a name."""
        return list(self._values.get(name, ()))


async def read_form(request: Request) -> Form:
    """Read a request's form; raises HTTPException for what is none, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise HTTPException(415, f"a form is sent as {_TYPE}")
    body = bytearray()
    try:
        async for block in request.stream():
            body += block
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"more than {MOST_BYTES} bytes; send less at once")
    except ClientDisconnect:  # no fault of this program, and nobody reads the answer
        raise HTTPException(400, "the form did not come to its end") from None
    try:
        text = body.decode("utf-8")
        return Form(
            parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        )
    except ValueError:  # UnicodeDecodeError is one
        raise HTTPException(400, "the form is not readable; load the page anew") from None
