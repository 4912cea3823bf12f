"""The headers of every answer: what keeps browsers from making more of it than it is, and what the guard says."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .guard import ANSWER_HEADERS, Headers

ALWAYS: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
NOTHING_LOADS: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For answers that are data: should a browser show one as a page, nothing of it runs."""

NOT_KEPT: Final = (b"cache-control", b"no-store")
OVER_TLS_ALONE: Final = (b"strict-transport-security", b"max-age=31536000")
"""A year (RFC 6797); only a service that says that it is behind TLS sends it."""

_DATA: Final = (b"application/json", b"application/problem+json")


class AnswerHeaders:
    """Adds headers to every answer of `app`, and changes nothing else.

    Args:
        tls: whether browsers are to use TLS alone from now on.
    """

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._always = [*ALWAYS, OVER_TLS_ALONE] if tls else ALWAYS
        self._for_data = [*self._always, NOTHING_LOADS, NOT_KEPT]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: Headers = message["headers"]
                own = dict(headers)
                added = self._for_data if own.get(b"content-type") in _DATA else self._always
                headers = [*headers, *(header for header in added if header[0] not in own)]
                message["headers"] = [*headers, *scope.get(ANSWER_HEADERS, ())]
            await send(message)

        await self._app(scope, receive, send_with_headers)
