"""What a real server in production does with hostile bytes, before and after it knows who sends them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

ROOT = Path(__file__).parent.parent

KEY = re.compile(r"lac_[0-9a-f]{16}_[0-9a-f]{64}")

EVIL = "\r\n\x1b[31m2026-11-22 ERROR forged\x00\x85\u2028\u202e"


class Served:
    """A server of its own in production, and what it has logged."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
                cwd=directory,  # where no .env is
                stderr=log,
                env={"ENVIRONMENT": "production", "ACCESS_LOG": "true", "PYTHONPATH": str(ROOT)},
            )
        give_up_at = monotonic() + 30
        while not (shown := KEY.search(self.log())):
            assert self.process.poll() is None, self.log()
            assert monotonic() < give_up_at, self.log()
            sleep(0.02)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log())
        assert found is not None
        self.port, self.key = int(found[1]), shown[0]

    def log(self) -> str:
        return self._log.read_bytes().decode()

    def lines(self) -> list[str]:
        """Return the lines of the log, as a reader that knows of every kind of line end sees them."""
        return [line for line in self.log().splitlines() if '"key":' not in line]  # shown once, and meant to be

    def raw(self, request: bytes) -> bytes:
        """Return all that is answered to these bytes before the server hangs up, or says no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while piece := connection.recv(65_536):
                    answer += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return answer

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"))
    yield server
    server.stop()


SMUGGLED = b"GET /api/v1/tools HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /api/v1/run-task HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: -2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length : 2\r\n\r\n{}" + SMUGGLED,
        b"GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n folded: 2\r\n\r\n",
        b"GET /api/v1/runs HTTP/1.1\nHost: x\n\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(served: Served, request_: bytes) -> None:
    answer = served.raw(request_)
    assert re.findall(rb"HTTP/1\.1 (\d{3})", answer) == [b"400"]


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a"),
        (b"GET /api/v1/runs HTTP/1.1\r\nX-A: ", b"a"),
        (b"GET /api/v1/runs HTTP/1.1\r\n", b"X-A: y\r\n"),
        (CHUNKED + b"2\r\n{}\r\n0\r\nX-A: ", b"a"),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-A: y\r\n"),
        (CHUNKED + b"2;", b"a"),
        (b"", b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ],
    ids=["path", "header", "headers", "trailer", "trailers", "extension", "requests"],
)
def test_what_goes_on_without_end_is_not_read_to_its_end(served: Served, begin: bytes, piece: bytes) -> None:
    """Nobody has been asked by then who they are; all of it would be kept in memory."""
    endless, sent = piece * (100_000 // len(piece)), 0
    with socket.create_connection(("127.0.0.1", served.port), timeout=2) as connection, suppress(OSError):
        connection.sendall(begin)
        while sent < 32 * 1024 * 1024:
            sent += connection.send(endless)
    assert sent < 16 * 1024 * 1024, "somebody has taken all of it"


def test_whatever_is_sent_every_line_of_the_log_is_whole_and_without_keys(served: Served) -> None:
    key, said = served.key.encode(), json.dumps(EVIL).encode()
    head = (
        b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nX-Api-Key: "
        + key
        + b"\r\n"
    )

    def post(path: bytes, body: bytes) -> bytes:
        return served.raw(b"POST " + path + b" " + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    goal = said.replace(b"\\u0000", b"")[1:-1] + b" " + key
    assert b"200 OK" in post(b"/api/v1/run-task", b'{"goal": "Add a note to PROP-2025-001: %s"}' % goal)
    post(b"/api/v1/run-task", b'{"goal": %s, %s: %s}' % (said, said, said))
    post(b"/api/v1/keys", b'{"name": %s, "scopes": [%s]}' % (said, said))
    served.raw(b"GET /" + key + b"/%0d%0a%1b%5b31m%c2%85%e2%80%a8%e2%80%ae%00%ff?q=%0a " + head + b"\r\n")
    sendable = bytes(char for char in EVIL.encode() if char >= 32)
    for name in (b"Host", b"Origin", b"User-Agent", b"traceparent", b"X-Api-Key", b"Idempotency-Key"):
        shown = (
            b"GET /api/v1/runs HTTP/1.1\r\n" + name + b": \xff\x85" + sendable + b"\r\nConnection: close\r\n\r\n"
        )
        assert b"401 Unauthorized" in served.raw(shown)

    give_up_at = monotonic() + 10
    while (
        len(lines := [line for line in served.lines() if '"message":"request"' in line]) < 10
    ):  # written in batches
        assert monotonic() < give_up_at, lines
    for line in served.lines():
        assert isinstance(json.loads(line), dict), line
        assert line.isprintable(), line
        assert served.key[-64:] not in line
