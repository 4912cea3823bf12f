"""Clients of event streams, straight over ASGI and over real sockets, and a parser that follows the standard."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from msgspec import Struct

T = TypeVar("T")


class Frame(Struct):
    """One event as an `EventSource` would dispatch it."""

    id: str
    event: str
    data: str


def parse(stream: str) -> list[Frame]:
    """Interpret a stream as WHATWG HTML 9.2.6 says; an unfinished frame at its end is dropped."""
    frames, kind, data, last_id = [], "", [], ""
    for line in re.split("\r\n|\r|\n", stream):
        if not line:
            if data:
                frames.append(Frame(last_id, kind or "message", "\n".join(data)))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id":
            last_id = value
    return frames


def ids(frames: list[Frame]) -> list[int]:
    """Return the numbers of the stored events among the frames."""
    return [int(frame.id) for frame in frames if frame.event not in {"end", "model.delta", "tool.progress"}]


class Connection:
    """A request straight over ASGI, whose client may stop reading or hang up."""

    def __init__(self, app: Any, path: str, query: str = "", **headers: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._gone = asyncio.Event()
        given = {"accept": "text/event-stream", **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.is_complete = not message.get("more_body", False)

    @property
    def frames(self) -> list[Frame]:
        return parse(self.body.decode())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - a test has nothing else to wait for
                await asyncio.sleep(0.001)

    async def hang_up(self) -> None:
        self._gone.set()
        await self.end()

    async def end(self) -> None:
        async with asyncio.timeout(5):
            await self.task


class RealServer:
    """An application under uvicorn as it is served for real, on a thread with an event loop of its own."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, http="httptools", log_config=None, access_log=False, lifespan="off")
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(config,))

    def _run(self, config: uvicorn.Config) -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            self.loop = runner.get_loop()
            self.loop.call_soon(self._ready.set)
            runner.run(self.server.serve(sockets=[self.listener]))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the server's loop."""

        async def called() -> T:
            return function(*arguments)

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(10)

    def unsent(self) -> list[int]:
        """Return how many bytes each connection holds that its client has not taken."""
        return self.call(
            lambda: [item.transport.get_write_buffer_size() for item in self.server.server_state.connections]  # type: ignore[union-attr]
        )

    def open(self, path: str, *, receive_buffer: int | None = None, **headers: str) -> socket.socket:
        """Send a request for a stream and return its socket."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(10)
        connection.connect(self.address)
        given = {"Host": "test", "Accept": "text/event-stream", **headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def serving(app: Any) -> Iterator[RealServer]:
    server = RealServer(app)
    server.thread.start()
    assert server._ready.wait(10)
    try:
        yield server
    finally:
        server.stop()


def read_all(connection: socket.socket, until: bytes = b"0\r\n\r\n") -> bytes:
    """Return the body of a chunked answer, read until its end or until some bytes have come."""
    received = bytearray()
    while until not in received[-len(until) - 65_536 :]:
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    return unchunked(bytes(received).partition(b"\r\n\r\n")[2])


def unchunked(body: bytes) -> bytes:
    parts, at = [], 0
    while at < len(body):
        line = body.index(b"\r\n", at)
        length = int(body[at:line], 16)
        parts.append(body[line + 2 : line + 2 + length])
        at = line + 4 + length
    return b"".join(parts)
