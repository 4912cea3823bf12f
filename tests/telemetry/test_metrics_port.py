"""The server of the metrics alone: it answers one path, leaves signals alone, and ends when it is told to."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from app.bootstrap.listening import listen
from app.errors import PortInUseError
from app.telemetry.metrics_port import MetricsPort


class Exposition:
    """Says what it was asked for."""

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        return f"# {accept}\n".encode(), "text/plain"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = listen("127.0.0.1", 0)
    number: int = listener.getsockname()[1]
    server = MetricsPort(Exposition())
    server.start(listener)
    yield number
    await server.stop()


async def ask(port: int, request: str) -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request} HTTP/1.1\r\nHost: a\r\nAccept: text/x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer.decode()


@pytest.mark.parametrize(
    ("request_line", "status", "ending"),
    [
        ("GET /metrics", 200, "\r\n\r\n# text/x\n"),
        ("GET /metrics?name[]=x", 200, "\r\n\r\n# text/x\n"),
        ("HEAD /metrics", 200, "\r\n\r\n"),
        ("POST /metrics", 405, "GET is allowed here.\n"),
        ("GET /", 404, "The metrics are at /metrics.\n"),
        ("GET /api/v1/runs", 404, "The metrics are at /metrics.\n"),
    ],
)
async def test_it_answers_one_path(port: int, request_line: str, status: int, ending: str) -> None:
    answer = await ask(port, request_line)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert answer.endswith(ending)
    assert "server:" not in answer


async def test_it_leaves_the_signals_to_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    server = MetricsPort(Exposition())
    listener = listen("127.0.0.1", 0)
    number: int = listener.getsockname()[1]
    server.start(listener)
    await ask(number, "GET /metrics")
    assert signal.getsignal(signal.SIGTERM) is before
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await ask(number, "GET /metrics")


async def test_one_that_was_never_begun_can_be_ended() -> None:
    await MetricsPort(Exposition()).stop()


async def test_a_reader_that_stays_does_not_keep_the_process() -> None:
    server = MetricsPort(Exposition())
    listener = listen("127.0.0.1", 0)
    number: int = listener.getsockname()[1]
    server.start(listener)
    await ask(number, "GET /metrics")
    _, writer = await asyncio.open_connection("127.0.0.1", number)
    async with asyncio.timeout(5):
        await server.stop()
    writer.close()


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError) as refused:
            listen("127.0.0.1", port, "METRICS_PORT")
    assert str(refused.value).startswith(f"Cannot listen on 127.0.0.1, port {port}: Address already in use.")
    assert "METRICS_PORT=" in str(refused.value)
    assert "\n" not in str(refused.value)
