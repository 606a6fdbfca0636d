"""What every answer says to the browser, and how often somebody may ask."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.page.access import address_of
from dicom_node.page.desk import Desk

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_TWO_YEARS_S: Final = 63_072_000
_STATIC: Final = "/static/"


class Guard:
    """Sets the headers above, and turns away who asks too often."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk = app, desk
        self._headers = dict(HEADERS)
        if desk.settings.tls is not None:
            self._headers["Strict-Transport-Security"] = f"max-age={_TWO_YEARS_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_static = scope["path"].startswith(_STATIC)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                # what it shows of patients is kept by no browser
                headers["Cache-Control"] = "max-age=3600" if is_static else "no-store"
            await send(message)

        wait_s = 0.0 if is_static else self._desk.requests.take(address_of(Request(scope)))
        if wait_s:
            answer = PlainTextResponse(
                "too many requests; wait a little", 429, {"Retry-After": f"{wait_s + 1:.0f}"}
            )
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
