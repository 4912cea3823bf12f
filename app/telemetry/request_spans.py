"""Spans of requests: one each, by the semantic conventions for HTTP, and a part of the caller's trace."""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..redaction import PLAIN_REDACTOR, Redactor

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Every other is `_OTHER`, so that nobody can make up names of spans."""

UNTRACED: Final = ("/api/v1/health", "/metrics")
"""What is asked every few seconds, and tells nothing."""


class TracedRequests:
    """ASGI middleware that makes a span of each request; it belongs around all the others."""

    def __init__(self, app: ASGIApp, tracer: Tracer, redactor: Redactor = PLAIN_REDACTOR) -> None:
        self._app = app
        self._redactor = redactor
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNTRACED):
            await self._app(scope, receive, send)
            return
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        span = self._tracer.start_span(
            method if method != "_OTHER" else "HTTP",
            propagate.extract(sent),
            SpanKind.SERVER,
            _of_request(scope, sent, method, self._redactor),
        )

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answer(span, message["status"])
            await send(message)

        # what an exception says may hold anything
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, send_on)
            except Exception as error:
                _fail(span, type(error).__qualname__)
                raise
            finally:
                _name(span, scope, method)


def _of_request(scope: Scope, sent: dict[str, str], method: str, redactor: Redactor) -> dict[str, Any]:
    # without the query: that is where some put what is secret
    found: dict[str, Any] = {
        "http.request.method": method,
        "url.path": redactor.text(scope["path"]),
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if method == "_OTHER":
        found["http.request.method_original"] = scope["method"][:64]
    if "user-agent" in sent:
        found["user_agent.original"] = redactor.text(sent["user-agent"])[:256]
    if scope.get("server"):
        found["server.address"], found["server.port"] = scope["server"][0], scope["server"][1] or 0
    return found


def _answer(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _fail(span, str(status))


def _fail(span: Span, problem: str) -> None:
    span.set_attribute("error.type", problem)
    span.set_status(StatusCode.ERROR)


def _name(span: Span, scope: Scope, method: str) -> None:
    """Name a span after the template of its route, which is known by now; a path without one gets no name."""
    route = getattr(scope.get("route"), "path", None)
    if route:
        span.set_attribute("http.route", route)
        span.update_name(f"{method if method != '_OTHER' else 'HTTP'} {route}")
