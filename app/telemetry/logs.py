"""Log set-up: one line an event, readable in development and JSON in production."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from logging.handlers import MemoryHandler
from typing import TextIO

import msgspec

FLUSH_AFTER_S = 0.05
CAPACITY = 1000


class BatchingHandler(MemoryHandler):
    """Writes the lines of a busy moment together: what a live event loop logs waits up to FLUSH_AFTER_S.

    A warning or anything graver is written at once, with what came before it; so is what is logged from a thread
    without an event loop.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(CAPACITY, flushLevel=logging.WARNING)
        self._stream = stream
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, and see to it that it will be written."""
        super().emit(record)
        if self.buffer and self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write what has been kept."""
        with self.lock or nullcontext():
            records, self.buffer, self._timer = self.buffer, [], None
            if records:
                self._stream.write("".join([f"{self.format(record)}\n" for record in records]))
                self._stream.flush()


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send everything that is logged to standard error, as lines of text or of JSON.

    Where the process has already set up its logging (an embedding program, a test runner) nothing is changed.
    """
    if logging.getLogger().handlers:
        return
    # what no format shows need not be found out for every line (logging HOWTO, "Optimization")
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        setattr(logging, detail, None)
    handler = BatchingHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else ConsoleFormatter())
    logging.basicConfig(handlers=[handler], level=level)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what was logged as `extra={"fields": {...}}`."""
    fields: dict[str, object] = record.__dict__.get("fields", {})
    return fields


class ConsoleFormatter(logging.Formatter):
    """`12:00:01 INFO    run finished run_id=... status=success`, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever text is in it, and the traceback of an exception below it."""
        seconds = int(record.created) % 86_400
        time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        fields = "".join([f" {key}={value}" for key, value in _fields(record).items()])
        line = f"{time} {record.levelname:<7} {record.getMessage()}{fields}"
        if "\n" in line or "\r" in line:
            line = line.replace("\n", "\\n").replace("\r", "\\r")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; an exception goes into a field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
