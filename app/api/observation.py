"""Observation: each request counted, and logged if that is wanted, when the last byte of its answer is out."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Final, Protocol
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..redaction import PLAIN_REDACTOR, Redactor
from .guard import PRINCIPAL
from .sse import MEDIA_TYPE

log = logging.getLogger(__name__)

UNMATCHED: Final = "unmatched"
"""What stands for the route of a request that has none of the API: the pages that describe it, and the rest."""

MAX_PATH_CHARS: Final = 300

_STREAM: Final = MEDIA_TYPE.encode()


class RequestObserver(Protocol):
    """Counts requests."""

    def answered(self, method: str, route: str, status: int, seconds: float, is_stream: bool) -> None:
        """Take note of a request: `route` is the template of its path, `is_stream` says that events were sent."""
        ...


class Observation:
    """Pure ASGI middleware, for the outside of all others: what they answer by themselves is observed too.

    Args:
        observer: counts requests; None if they are not counted.
        logs: whether each is logged.
        redactor: masks secrets in paths, before they are written in another way.
    """

    def __init__(
        self,
        app: ASGIApp,
        observer: RequestObserver | None = None,
        *,
        logs: bool = False,
        redactor: Redactor = PLAIN_REDACTOR,
    ) -> None:
        self._app = app
        self._redactor = redactor
        self._observer = observer
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and take note of how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, is_stream = 500, False  # what the server answers if nobody here does

        async def observed(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = _is_stream(message)
            await send(message)

        began = perf_counter()
        try:
            await self._app(scope, receive, observed)
        finally:
            self._note(scope, status, perf_counter() - began, is_stream)

    def _note(self, scope: Scope, status: int, seconds: float, is_stream: bool) -> None:
        route = scope.get("route")
        template: str = UNMATCHED if route is None else getattr(route, "path", UNMATCHED)
        if self._observer is not None:
            self._observer.answered(scope["method"], template, status, seconds, is_stream)
        if self._logs:
            _log(scope, self._redactor.text(scope["path"]), template, status, seconds)


def _is_stream(start: Message) -> bool:
    for name, value in start["headers"]:
        if name == b"content-type":
            return bool(value.startswith(_STREAM))
    return False


def _log(scope: Scope, path: str, template: str, status: int, seconds: float) -> None:
    fields: dict[str, object] = {
        "method": _escaped(scope["method"][:20]),
        "path": _escaped(path),
        "route": template,
        "status": status,
        "ms": round(seconds * 1000, 2),
    }
    principal = scope.get(PRINCIPAL)
    if principal is not None:
        fields |= {"tenant": principal.tenant, "principal": _escaped(principal.name)}
    log.info("request", extra={"fields": fields})


def _escaped(text: str) -> str:
    """Return a text from outside as printable ASCII without spaces or quotes: one word of one line."""
    return quote(text[:MAX_PATH_CHARS], safe="/:@!$&()*+,;=-._~|", errors="replace")
