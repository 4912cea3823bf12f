"""The HTTP client under a provider's SDK: what leaves with its requests, and that what it opens is closed."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from .access import Timeouts

USER_AGENT: Final = "llm-agent-core"

_opened: ContextVar[list[httpx2.Response]] = ContextVar("opened")


def open_http(timeouts: Timeouts, *, keep_openai_headers: bool) -> httpx2.AsyncClient:
    """Return a client for one event loop. No SDK's description of this machine leaves with its requests."""

    async def trim(request: httpx2.Request) -> None:
        for header in list(request.headers):
            if header.startswith("x-stainless-") or (header.startswith("openai-") and not keep_openai_headers):
                del request.headers[header]
        request.headers["User-Agent"] = USER_AGENT

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
