"""Strict reading of JSON bodies: bounded, declared, UTF-8, and not too deep, before anything is made of them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, Self

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..errors import (
    AgentCoreError,
    BodyTooLargeError,
    MalformedBodyError,
    NestingTooDeepError,
    UnsupportedMediaTypeError,
)
from ..jsonvalue import MAX_DEPTH
from . import errors
from .guard import Guard, Needs, take_needs
from .models import MAX_BODY_BYTES

log = logging.getLogger(__name__)

_TEXT_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedBodyError(f"The body is not valid JSON: {name} is not a JSON number.")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


class StrictRequest(Request):
    """A request whose body has been read and parsed by our rules before FastAPI asks for it.

    `idempotency_key` is the value of that header, the last one if there are several.
    """

    document: object = None
    idempotency_key: bytes | None = None

    async def json(self) -> Any:
        """Return what the body was parsed to."""
        return self.document

    async def read(self) -> None:
        """Read and parse the body.

        Raises:
            UnsupportedMediaTypeError, BodyTooLargeError, MalformedBodyError, NestingTooDeepError
        """
        headers = dict(self.scope["headers"])
        media_type = headers.get(b"content-type", b"")
        others = [header for header in self.scope["headers"] if header[0] != b"content-type"]
        if len(self.scope["headers"]) - len(others) > 1:
            raise UnsupportedMediaTypeError("The body has more than one Content-Type.")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaTypeError("The body has to be sent without a Content-Encoding.")
        if media_type != b"application/json":
            _check_media_type(media_type, from_page=b"origin" in headers)
        # The declared type has been judged here, by other rules than FastAPI's. It takes a body without one for
        # JSON (strict_content_type is off), and is spared working it out again with the parser of e-mail headers.
        self.scope["headers"] = others
        self.idempotency_key = headers.get(b"idempotency-key")
        try:
            self._body = await self._bounded_body(headers.get(b"content-length"))
        except ClientDisconnect:
            raise MalformedBodyError("The body ended before it was whole.") from None
        self.document = parse_json(self._body)

    async def _bounded_body(self, declared: bytes | None) -> bytes:
        if declared is not None and declared.isdigit():  # and no server hands on more than was declared
            if int(declared[:20]) > MAX_BODY_BYTES:
                raise _too_large()
            return await self.body()
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            chunks.append(chunk)
        return b"".join(chunks)


def _check_media_type(declared: bytes, *, from_page: bool) -> None:
    """Accept JSON, and what a plain `fetch()` or a bare client sends unless a browser page may have sent it.

    A page can post text/plain, or no type at all, across origins without a preflight; its Origin gives it away.
    """
    media_type = declared.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return
    if media_type.startswith(b"application/") and media_type.endswith(b"+json"):
        return
    if media_type in (b"", b"text/plain") and not from_page:
        return
    shown = media_type[:100].decode("latin-1") or "without a type"
    raise UnsupportedMediaTypeError(f"The body has to be sent as application/json, not {shown}.")


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than {MAX_BODY_BYTES} bytes.")


def parse_json(body: bytes) -> object:
    """Parse one JSON document (RFC 8259: UTF-8, no NaN, nothing after it), nested at most MAX_DEPTH deep.

    Raises:
        MalformedBodyError: it is none; the message says where.
        NestingTooDeepError
    """
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise NestingTooDeepError(f"The body is nested more than {MAX_DEPTH} levels deep.")
    if not body:
        raise MalformedBodyError("The body is empty; it has to be a JSON document.")
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(body)
    # the slower parser says where the fault is, and takes lone surrogates, of which validation can say more
    try:
        return _decoder.decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise MalformedBodyError(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"The body is not UTF-8: byte {error.start} is invalid.") from error
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        raise MalformedBodyError("The body holds a number with too many digits.") from error


def _depth(body: bytes) -> int:
    """Return how deep brackets nest outside of texts; linear in the size of the body."""
    depth = deepest = 0
    for match in _TEXT_OR_BRACKET.finditer(body):
        if match[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in (b"]", b"}"):
            depth -= 1
    return deepest


class StrictRoute(APIRoute):
    """A FastAPI route that admits, reads bodies strictly and answers its own faults inside the middleware (CORS).

    `guard` decides who is admitted; `guarded_by` makes the class of routes for another.
    """

    guard: ClassVar[Guard | None] = None
    needs: Needs | None

    @classmethod
    def guarded_by(cls, guard: Guard) -> type[Self]:
        """Return the same class of routes behind another guard."""
        return type(cls.__name__, (cls,), {"guard": guard})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        needs, guard = take_needs(self), self.guard
        self.needs = needs
        has_body = self.body_field is not None
        handler = super().get_route_handler()
        if guard is None and needs is not None:
            raise TypeError(f"nobody guards the route {self.path}")

        async def handle(request: Request) -> Response:
            try:
                if needs is not None and guard is not None:
                    await guard.admit(request, needs)
                self.check_query(request)
                if has_body:
                    request = StrictRequest(request.scope, request.receive)
                    await request.read()
                return await handler(request)
            except (AgentCoreError, HTTPException, RequestValidationError):
                raise
            except Exception:
                log.exception("fault in %s", self.path)
                return errors.internal_fault()

        return handle

    def check_query(self, request: Request) -> None:
        """Take whatever a query holds besides the parameters that there are."""


class StrictQueryRoute(StrictRoute):
    """A route that also refuses parameters of a query which it does not know, or is given twice."""

    def check_query(self, request: Request) -> None:
        """Raise RequestValidationError if the query holds anything that would be passed over."""
        if not request.scope["query_string"]:
            return
        known = [field.alias for field in self.dependant.query_params]
        given = [name for name, _ in request.query_params.multi_items()]
        problems = [
            {"type": "value_error", "loc": ("query", name[:80]), "msg": _problem_of(name, known)}
            for name in dict.fromkeys(given)
            if name not in known or given.count(name) > 1
        ]
        if problems:
            raise RequestValidationError(problems)


def _problem_of(name: str, known: list[str]) -> str:
    if name in known:
        return "It is given more than once."
    return f"There is no such parameter here. Known: {', '.join(known) or 'none'}."
