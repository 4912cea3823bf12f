"""The port of the metrics: a server beside the API's, or in a worker the only one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TypeAlias

import uvicorn

PATH: Final = "/metrics"
ENDING_S: Final = 1
MAX_CONNECTIONS: Final = 20

Scope: TypeAlias = MutableMapping[str, Any]


class Exposition(Protocol):
    """Says what has been counted."""

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the text, in a form that an Accept header with this value takes, and its content type."""
        ...


class Send(Protocol):
    """How ASGI takes an answer."""

    def __call__(self, message: MutableMapping[str, Any], /) -> Awaitable[None]: ...


class MetricsPort:
    """Serves `GET /metrics` on the running event loop, for everybody who reaches the address, and nothing else."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def start(self, listener: socket.socket) -> None:
        """Begin to serve on a listening socket, which is closed in the end."""
        config = uvicorn.Config(
            self._answer,
            http="h11",  # a request every few seconds
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ENDING_S,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """End, if it has begun; requests under way have a second."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        _, late = await asyncio.wait([self._serving], timeout=ENDING_S + 1)
        for task in late:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _answer(self, scope: Scope, _: object, send: Send) -> None:
        if scope["path"] != PATH:
            await _send(send, 404, b"The metrics are at /metrics.\n", "text/plain")
        elif scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, b"GET is allowed here.\n", "text/plain", (b"allow", b"GET, HEAD"))
        else:
            accepted = [value for name, value in scope["headers"] if name == b"accept"]
            await _send(send, 200, *await self._exposition.scrape(b",".join(accepted).decode("latin-1")))


async def _send(send: Send, status: int, body: bytes, content_type: str, *others: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *others]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever runs the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
