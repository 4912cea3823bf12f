"""A process full of listeners: each a plain connection that follows the events of a run and reads what comes."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from functools import partial
from typing import Final, cast

from benchmarks.place import allow_many_sockets
from benchmarks.server import HOST

AT_ONCE: Final = 100
"""How many connect at a time."""

LIMIT_S: Final = 120.0
LISTENING: Final = "listening"


class Listener(asyncio.Protocol):
    """One stream. `first` is done when its first event has come."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        path = f"/api/v1/runs/{self._run_id}/events"
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n"
        cast("asyncio.Transport", transport).write(request.encode())

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if not self.first.done() and b"id: " in data:
            self.first.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.first.done():
            self.first.set_exception(error or ConnectionError("the stream ended before its first event"))


def _same(listener: Listener) -> Listener:
    return listener


async def listen(port: int, run_ids: list[str]) -> int:
    """Follow each of the runs until standard input ends, and return how many bytes came."""
    loop = asyncio.get_running_loop()
    listeners: list[Listener] = []
    for start in range(0, len(run_ids), AT_ONCE):
        some = [Listener(run_id) for run_id in run_ids[start : start + AT_ONCE]]
        await asyncio.gather(*(loop.create_connection(partial(_same, one), HOST, port) for one in some))
        listeners += some
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(listener.first for listener in listeners))
    print(LISTENING, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return sum(listener.received for listener in listeners)


def main() -> None:
    """Take the port as argument and the ids, a JSON list, as the first line of standard input."""
    allow_many_sockets()
    run_ids = json.loads(sys.stdin.readline())
    with suppress(ImportError):  # it is not there on Windows
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    print(asyncio.run(listen(int(sys.argv[1]), run_ids)))


if __name__ == "__main__":
    main()
