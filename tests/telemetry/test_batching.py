from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

import app.telemetry.logs as logs
from app.telemetry.logs import BatchingHandler, ConsoleFormatter


class Stream(io.StringIO):
    """Counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def log(stream: Stream) -> Iterator[logging.Logger]:
    handler = BatchingHandler(stream)
    handler.setFormatter(ConsoleFormatter())
    logger = logging.getLogger("test.batching")
    logger.setLevel("INFO")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


async def test_the_lines_of_a_busy_moment_are_written_together(
    log: logging.Logger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH_AFTER_S", 0)
    for number in range(5):
        log.info("line %d", number)
    assert stream.writes == 0
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stream.writes == 1
    assert [line[-6:] for line in stream.getvalue().splitlines()] == [f"line {number}" for number in range(5)]


async def test_a_warning_is_written_at_once_with_what_came_before_it(log: logging.Logger, stream: Stream) -> None:
    log.info("first")
    log.warning("second")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["first", "second"]
    log.info("third")
    log.error("fourth")
    assert len(stream.getvalue().splitlines()) == 4


def test_without_an_event_loop_a_line_is_written_at_once(log: logging.Logger, stream: Stream) -> None:
    log.info("now")
    assert stream.getvalue().endswith("now\n")


async def test_nothing_is_lost_when_the_handler_is_closed(log: logging.Logger, stream: Stream) -> None:
    log.info("last words")
    log.handlers[0].close()
    assert "last words" in stream.getvalue()


async def test_a_full_buffer_is_written(
    log: logging.Logger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.handlers[0].capacity = 3  # type: ignore[attr-defined]
    for number in range(3):
        log.info("line %d", number)
    assert len(stream.getvalue().splitlines()) == 3
