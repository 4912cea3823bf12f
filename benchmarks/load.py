"""Load on one HTTP route over keep-alive connections: by wrk where it is installed, else by a small client."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import cast

from benchmarks.place import ROOT
from benchmarks.server import HOST

MAX_CONNECTIONS = 256
MAX_SECONDS = 30

NUMBER = "%d"
"""Stands in a body for a number that is another one in every request."""

FIRST_NUMBER = 100_000

LUA = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = {body}\n'
LUA_KEY = 'wrk.headers["Authorization"] = {key}\n'
LUA_NUMBERED = """
local template, number = wrk.body, {first}
request = function()
  number = number + 1
  return wrk.format(nil, nil, nil, string.format(template, number))
end
"""


def client_name(wanted: str | None = None) -> str:
    """Return "wrk" or "python": the one asked for, or the best there is."""
    return wanted or ("wrk" if shutil.which("wrk") else "python")


def requests_a_second(
    client: str, port: int, path: str, body: str, connections: int, seconds: int, key: str = ""
) -> float:
    """Post `body` for `seconds` from a process of its own; a connection asks again when it has its answer.

    With `key` each request shows that API key.

    Raises:
        RuntimeError: an answer was not a 200.
    """
    assert connections <= MAX_CONNECTIONS
    assert seconds <= MAX_SECONDS
    if client == "wrk":
        return _wrk(port, path, body, connections, seconds, key)
    numbers = [str(number) for number in (connections, seconds)]
    command = [sys.executable, "-m", "benchmarks.load", str(port), path, body, *numbers, key]
    return float(_output(command, seconds))


def _output(command: list[str], seconds: int) -> str:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stdout + ran.stderr)
    return ran.stdout


def _wrk(port: int, path: str, body: str, connections: int, seconds: int, key: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "post.lua")
        lua = LUA.format(body=json.dumps(body))  # a JSON text is a Lua text
        lua += LUA_KEY.format(key=json.dumps(f"Bearer {key}")) if key else ""
        lua += LUA_NUMBERED.format(first=FIRST_NUMBER) if NUMBER in body else ""
        script.write_text(lua, encoding="utf-8")
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://{HOST}:{port}{path}",
        ]
        printed = _output(command, seconds)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", printed)
    if rate is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(printed)
    return float(rate[1])


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, and again."""

    def __init__(self, requests: Iterator[bytes], failed: asyncio.Future[None]) -> None:
        self._requests = requests
        self._failed = failed
        self._received = b""
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not separator or length is None or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200 ") and not self._failed.done():
            self._failed.set_exception(RuntimeError(self._received.decode()))
        self.answers += 1
        self._received = b""
        self._transport.write(next(self._requests))

    def close(self) -> None:
        self._transport.abort()


def _requests(port: int, path: str, body: str, key: str) -> Iterator[bytes]:
    shown = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n{shown}"
    for number in count(FIRST_NUMBER):
        payload = body.replace(NUMBER, str(number))
        yield f"{head}Content-Length: {len(payload.encode())}\r\n\r\n{payload}".encode()


async def _drive(port: int, path: str, body: str, connections: int, seconds: int, key: str) -> float:
    requests = _requests(port, path, body, key)
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    started = perf_counter()
    clients = [
        (await loop.create_connection(lambda: Connection(requests, failed), HOST, port))[1]
        for _ in range(connections)
    ]
    done, _ = await asyncio.wait([failed], timeout=seconds)
    rate = sum(client.answers for client in clients) / (perf_counter() - started)
    for client in clients:
        client.close()
    if done:
        failed.result()
    return rate


def main(arguments: list[str]) -> None:
    """Print the rate for: port, path, body, connections, seconds, key (empty for none)."""
    port, path, body, connections, seconds, key = arguments
    with suppress(ImportError):  # it is not there on Windows
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    print(asyncio.run(_drive(int(port), path, body, int(connections), int(seconds), key)))


if __name__ == "__main__":
    main(sys.argv[1:])
