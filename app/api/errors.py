"""From errors to RFC 9457 problem details: the only place where HTTP statuses stand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from .. import errors
from ..errors import AgentCoreError
from ..redaction import PLAIN_REDACTOR, Redactor
from .models import PATTERN_MEANINGS

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"

STATUS: dict[type[AgentCoreError], HTTPStatus] = {
    errors.CallerError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.NotesUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RunNotFoundError: HTTPStatus.NOT_FOUND,
    errors.KeyNotFoundError: HTTPStatus.NOT_FOUND,
    errors.RunPrunedError: HTTPStatus.GONE,
    errors.RunEndedError: HTTPStatus.CONFLICT,
    errors.RunNotWaitingError: HTTPStatus.CONFLICT,
    errors.InvalidIdempotencyKeyError: HTTPStatus.BAD_REQUEST,
    errors.UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.PermissionDeniedError: HTTPStatus.FORBIDDEN,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QuotaExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IdentityProviderError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UnreadableRunError: HTTPStatus.INTERNAL_SERVER_ERROR,  # trying again is no use; the log says what it is
    # these are caught where they happen; one that gets here is a fault of this program
    errors.RunningLoopError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.StepError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SetupError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""A class without a line of its own has its parent's status."""

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""RFC 9110's names; Python's own differ between its versions, and a title must not (RFC 9457 section 3.1)."""

RETRY_AFTER_S = 5
"""What a client is told to wait when the database does not answer; by then it has been tried for a while."""

HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}

UNAVAILABLE = (
    "The database does not answer, so the request may not have been carried out. Try again, with its key."
)


def status_of(kind: type[AgentCoreError]) -> HTTPStatus:
    """Return the status for a class of errors: its own, or its nearest ancestor's."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def problem_body(status: int, code: str, detail: str) -> dict[str, object]:
    """Return the members that every problem document has."""
    return {
        "type": f"urn:llm-agent-core:problem:{code}",
        "title": TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }


def problem(
    status: int,
    code: str,
    detail: str,
    fields: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
    redactor: Redactor = PLAIN_REDACTOR,
) -> Response:
    """Build the response, in which `redactor` masks what is secret."""
    body = problem_body(status, code, redactor.text(detail))
    if fields:
        body["errors"] = [{name: redactor.text(said) for name, said in field.items()} for field in fields]
    return Response(msgspec.json.encode(body), status, headers, PROBLEM_TYPE)


def internal_fault() -> Response:
    """Build the answer to a fault of ours: it says nothing of the inside; the log does."""
    return problem(500, "internal_error", "Something went wrong inside the service. The log says what.")


def install(app: FastAPI, on_refusal: Callable[[str], None] | None = None) -> None:
    """Make every error of the application a problem document; `on_refusal` is told the code of each of ours."""

    async def on_own_error(request: Request, error: Exception) -> Response:
        if on_refusal is not None and isinstance(error, AgentCoreError):
            on_refusal(error.code)
        return await _on_own_error(request, error)

    app.add_exception_handler(AgentCoreError, on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)


def _redactor(request: Request) -> Redactor:
    """Return what knows the secrets of the application, if it has been told them."""
    redactor: Redactor = getattr(request.app.state, "redactor", PLAIN_REDACTOR)
    return redactor


async def _on_own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AgentCoreError)
    status = status_of(type(error))
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unexpected error", exc_info=error)
        return internal_fault()
    if isinstance(error, errors.StorageError):
        log.warning("%s", error)  # what a driver says names hosts and users
        return problem(status, error.code, UNAVAILABLE, headers={"Retry-After": str(RETRY_AFTER_S)})
    return problem(status, error.code, str(error), headers=_headers_of(error), redactor=_redactor(request))


def _headers_of(error: AgentCoreError) -> dict[str, str] | None:
    """Return what an answer says besides: how to be admitted (RFC 6750 section 3), or when to try again."""
    if isinstance(error, errors.UnauthenticatedError):
        return {"WWW-Authenticate": 'Bearer realm="llm-agent-core"'}
    if isinstance(error, errors.PermissionDeniedError):
        if error.scope is None:
            return {"WWW-Authenticate": 'Bearer realm="llm-agent-core"'}
        scope = f'error="insufficient_scope", scope="{error.scope}"'
        return {"WWW-Authenticate": f'Bearer realm="llm-agent-core", {scope}'}
    if isinstance(error, errors.IdentityProviderError):
        return {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, errors.RateLimitedError | errors.QuotaExceededError):
        return {"Retry-After": str(error.retry_after_s)}
    return None


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [
        {"field": ".".join(str(part) for part in item["loc"][1:]) or "body", "message": _reason(item)}
        for item in error.errors()
    ]
    detail = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    redactor = _redactor(request)
    return problem(422, "invalid_request", redactor.text(detail)[:2000], fields[:50], redactor=redactor)


def _reason(item: dict[str, Any]) -> str:
    """Return pydantic's reason, except where it would show a person a regular expression."""
    pattern = item.get("ctx", {}).get("pattern")
    return PATTERN_MEANINGS.get(pattern) or str(item["msg"]).removeprefix("Value error, ")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    redactor = _redactor(request)
    if error.status_code == HTTPStatus.NOT_FOUND:
        path = redactor.text(request.url.path)[:200]
        detail = f"There is nothing at {path}. The API is described at /docs and /openapi.json."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
        detail = f"{request.method[:20]} is not allowed here; {headers['Allow'] or 'nothing'} is."
    response = problem(
        error.status_code, HTTP_CODES.get(error.status_code, "http_error"), detail, redactor=redactor
    )
    response.headers.update(headers)
    return response


def _allowed(request: Request) -> list[str]:
    """Return the methods of all routes at this address; starlette names those of the first."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _on_fault(_: Request, __: Exception) -> Response:
    # the server logs the exception itself, which starlette raises again after this answer
    return internal_fault()
