"""Server-sent events: a run's events, and what is heard between them, as frames (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, Protocol

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from ..errors import CallerError, StorageError
from ..runs.feed import Page
from ..runs.live import Delta, Heard
from ..runs.models import FINISHED, Run, RunStatus, StoredEvent

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0
PART_BYTES: Final = 64 * 1024
"""How much is given to the server at once; what it holds of a slow reader is that and its own high-water mark."""

LAST_PART_S: Final = 1.0
OPENING: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b":\n\n"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would gather frames
    "Vary": "Accept",
}

_TYPE = re.compile(r'"event":\{"type":"([a-z._]{1,64})"(?:,"status":"([a-z]+)")?')
_LINE_END = re.compile("\r\n|\r|\n")


class Stopping(Protocol):
    """Is set when the server is about to stop, as an `asyncio.Event` is."""

    async def wait(self) -> object: ...


def event_type(body: str) -> str | None:
    """Return the type of a stored event, which stands right behind the envelope's few fields."""
    found = _TYPE.search(body, 0, 500)
    return None if found is None else found[1]


def frame(event: StoredEvent) -> str:
    """Return the frame of one event: its number as id, its type, and its stored text as data.

    Stored JSON holds no line ends, but a text that does must not become two frames.
    """
    kind = event_type(event.body) or "message"
    body = event.body
    data = body if "\n" not in body and "\r" not in body else _LINE_END.sub("\ndata: ", body)
    return f"id: {event.seq}\nevent: {kind}\ndata: {data}\n\n"


def heard_frame(heard: Heard) -> bytes:
    """Return the frame of something that is not kept. It has no id, so that it moves no client's `Last-Event-ID`.

    Its data is JSON, in which a line end in a text is an escape.
    """
    kind = b"model.delta" if isinstance(heard, Delta) else b"tool.progress"
    return b"event: %s\ndata: %s\n\n" % (kind, msgspec.json.encode(heard))


def frames(page: list[StoredEvent]) -> bytes:
    """Return the frames of a page; they are made once for all who are handed the same page."""
    if not isinstance(page, Page):
        return "".join(map(frame, page)).encode()
    if page.wire is None:
        page.wire = "".join(map(frame, page)).encode() + b"".join(map(heard_frame, page.heard))
    return page.wire


class EventStream(Response):
    """The answer that is a run's events as they become durable, what is heard meanwhile, and the end of the run.

    It asks for the next page only when the one before has been sent, so a slow reader costs one page and what
    the server's transport holds. It ends after the frame `end`; or when the client goes, the server stops, or
    the journal fails, and then the client asks again with the id it has come to.

    Args:
        pages: yields the events; it is closed when the stream ends.
        look: returns the run, for how it ended.
        recheck: is asked now and then whether the client may still be told; what it raises ends the stream.
        stopping: is set when the server stops.
        heartbeat_s: seconds between comments, which show proxies and clients that the connection lives.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        pages: AsyncGenerator[list[StoredEvent], None],
        look: Callable[[], Awaitable[Run]],
        recheck: Callable[[], Awaitable[object]],
        stopping: Stopping,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._pages = pages
        self._look = look
        self._recheck = recheck
        self._stopping = stopping
        self._heartbeat_s = heartbeat_s
        self._sending = False

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Stream until the run has ended, the client has gone or the server stops."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send(_part(OPENING))
        gone = asyncio.ensure_future(_gone(receive))
        others = [self._all_events(send), self._heartbeats(send), self._stopping.wait()]
        tasks = [gone, *map(asyncio.ensure_future, others)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, CallerError):  # as when a token has run out
                log.info("a stream of events was ended: %s", outcome)
            elif isinstance(outcome, Exception):  # its answer can be no other by now: the client asks again
                log.warning("a stream of events was broken off", exc_info=outcome)
        if gone.cancelled():
            with suppress(TimeoutError):  # a client that takes nothing does not keep a server from stopping
                async with asyncio.timeout(LAST_PART_S):
                    await send(_part(b"", more=False))

    async def _all_events(self, send: Send) -> None:
        ended: RunStatus | None = None
        async with aclosing(self._pages) as pages:
            async for page in pages:
                ended = _end_of(page[-1]) if page else None
                wire = frames(page)
                del page  # a slow reader holds what is sent, and not what it was made of
                self._sending = True
                for start in range(0, len(wire), PART_BYTES):
                    await send(_part(wire[start : start + PART_BYTES]))
                self._sending = False
        if ended is None:
            ended = (await self._look()).status
        await send(_part(f'event: end\ndata: {{"status":"{ended}"}}\n\n'.encode()))

    async def _heartbeats(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            with suppress(StorageError):  # who it is cannot be told now, and was told before
                await self._recheck()
            if not self._sending:
                await send(_part(HEARTBEAT))


def _part(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _end_of(event: StoredEvent) -> RunStatus | None:
    """Return how the run ended if this is the event that says so."""
    found = _TYPE.search(event.body, 0, 500)
    if found is None or found[1] != "run.finished":
        return None
    return next((status for status in FINISHED if status == found[2]), None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
