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
from time import perf_counter, sleep

from benchmarks.place import ROOT, new_directory
from benchmarks.process import cpu_seconds, resident_megabytes

HOST = "127.0.0.1"
HEALTH = "/api/v1/health"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0

OURS = [sys.executable, "main.py"]
WORKER = [sys.executable, "-m", "app.cli", "worker"]
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
def serving(command: list[str], **settings: str) -> Iterator[Server]:
    """Start `command` on a free port, wait for its first 200, and end it by its process id.

    What it logs goes to a file, as a service's log does. Its database is in a directory of its own, which goes
    with it, unless `settings` (variables of the environment) name another.
    """
    port = _free_port()
    with new_directory() as directory:
        variables = {"HOST": HOST, "DATA_DIR": str(directory), "DATABASE_URL": "", **settings}
        with started([*command, "--port", str(port)], **variables) as (process, start):
            _wait(process, port)
            yield Server(process.pid, port, perf_counter() - start)


@contextmanager
def started(arguments: list[str], **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a process of the checkout, and end it by its process id; yield it and when it was started.

    Raises:
        RuntimeError: it did not do what it was to do, with what it has said.
    """
    with tempfile.TemporaryFile() as log:
        start = perf_counter()
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **variables})
        try:
            yield process, start
        except ServerDiedError:
            log.seek(0)
            said = log.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(arguments)} did not start:\n{said}") from None
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
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


def post(port: int, path: str, body: bytes, status: int = 200) -> bytes:
    """Send one request and return the body of its answer, which is to have this status."""
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == status, answer
        return answer
    finally:
        connection.close()
