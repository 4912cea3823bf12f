"""The HTTP client under a provider's SDK: what leaves with its requests, and that what it opens is closed."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from ..trace_context import current_traceparent
from .access import Access, Timeouts

USER_AGENT: Final = "llm-agent-core"

NO_KEY: Final = "none"
"""What is sent in a key's place to a server that wants none."""

_KEY_HEADERS: Final = {"authorization": "Bearer ", "x-api-key": "", "x-goog-api-key": ""}

_SENT: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "x-server-timeout",
    }
)

_OPENAI_HOST: Final = "api.openai.com"
_SENT_TO_OPENAI: Final = frozenset({"openai-organization", "openai-project"})

_opened: ContextVar[list[httpx2.Response]] = ContextVar("opened")


def open_http(timeouts: Timeouts, access: Access) -> httpx2.AsyncClient:
    """Return a client for one event loop. Headers that an SDK takes from the environment do not leave with it."""

    async def trim(request: httpx2.Request) -> None:
        kept = _SENT | _SENT_TO_OPENAI if request.url.host == _OPENAI_HOST else _SENT
        for header in list(request.headers):
            if header in _KEY_HEADERS:  # *_CUSTOM_HEADERS of the environment may have put another secret there
                request.headers[header] = _KEY_HEADERS[header] + (access.api_key or NO_KEY)
            elif header not in kept:
                del request.headers[header]
        request.headers["User-Agent"] = USER_AGENT
        traceparent = current_traceparent()
        if traceparent is not None:
            request.headers["traceparent"] = traceparent

    async def note(response: httpx2.Response) -> None:
        _opened.get([]).append(response)

    http = create_async_httpx2_client(
        timeout=httpx2.Timeout(timeouts.timeout_s, connect=timeouts.connect_timeout_s)
    )
    http.event_hooks["request"].append(trim)
    http.event_hooks["response"].append(note)
    return http


def note_responses() -> list[httpx2.Response]:
    """Return the list into which the responses go that the running task opens from now on."""
    opened: list[httpx2.Response] = []
    _opened.set(opened)
    return opened


async def close_responses(opened: list[httpx2.Response]) -> None:
    """Close what an SDK left open: Google's leaves the connection of a closed stream to the garbage collector."""
    for response in opened:
        await response.aclose()
    opened.clear()  # the task's context keeps the list
