"""Server processes under test: the service as its users start it, and the bare route on the same options."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.process import cpu_seconds, resident_megabytes

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
HEALTH = "/api/v1/health"
START_LIMIT_S = 30.0

OURS = [sys.executable, "main.py"]
BARE = [
    *(sys.executable, "-m", "uvicorn", "benchmarks.bare_route:app", "--loop", "uvloop", "--http", "httptools"),
    *("--no-access-log", "--no-server-header", "--log-level", "warning", "--host", HOST),
]


@dataclass(frozen=True)
class Server:
    """A server that answers; `up_s` is how long that took from the start of its process."""

    pid: int
    port: int
    up_s: float

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def megabytes(self) -> float:
        return resident_megabytes(self.pid)


@contextmanager
def serving(command: list[str]) -> Iterator[Server]:
    """Start `command` on a free port, wait for its first 200, and end it by its process id.

    What it logs goes to a file, as a service's log does.
    """
    port = _free_port()
    arguments = [*command, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        started = perf_counter()
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "HOST": HOST})
        try:
            _wait(process, port)
            yield Server(process.pid, port, perf_counter() - started)
        except ServerDiedError:
            log.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} did not start:\n{log.read().decode()}") from None
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class ServerDiedError(Exception):
    """The process ended, or did not answer in time."""


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    limit = perf_counter() + START_LIMIT_S
    while process.poll() is None and perf_counter() < limit:
        connection = HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", HEALTH)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            sleep(0.002)
        finally:
            connection.close()
    raise ServerDiedError


def post(port: int, path: str, body: bytes) -> bytes:
    """Send one request and return the body of its 200."""
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return answer
    finally:
        connection.close()
