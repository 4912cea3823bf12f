"""The log: one line an event, readable in development, JSON in production, written in batches when busy."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
from contextlib import suppress
from threading import Lock
from time import time
from typing import TextIO

from ..redaction import PLAIN_REDACTOR, Redactor
from ..runs.models import FinishedRun
from .lines import console_line, formatter, json_line
from .place import run_place

FLUSH_AFTER_S = 0.05
"""How long a line below a warning may wait for others, so that a busy moment is written at once."""


TALKATIVE = ("httpx2", "httpcore2", "openai", "anthropic", "google_genai", "alembic")
"""Loggers that say much: what speaks to models, with DEBUG all that was sent and received; and migrations."""


class LineWriter:
    """Writes lines: together with their neighbours while an event loop runs, at once elsewhere or when urgent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lines: list[str] = []
        self._lock = Lock()  # threads may log too
        self._due_on: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def write(self, line: str, *, urgent: bool) -> None:
        """Take one line without its end."""
        self._lines.append(line)
        if urgent:
            self.flush()
        elif self._due_on is None or self._due_on.is_closed():
            try:
                self._due_on = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
            else:
                self._due_on.call_later(FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Write what has been taken."""
        with self._lock:
            lines, self._lines, self._due_on = self._lines, [], None
            if lines:
                # whatever somebody's text holds, and whatever the terminal cannot show
                text = ("\n".join(lines) + "\n").encode(self._encoding, "backslashreplace").decode(self._encoding)
                with suppress(OSError, ValueError):  # whoever read the log has gone
                    self._stream.write(text)
                    self._stream.flush()


class Log(logging.Handler):
    """The process's log. `install` makes it the one that `logging` writes to.

    What is logged as `logger.info("text", extra={"fields": {...}})` carries the fields, and where it comes from.
    `redactor` masks the secrets in all of it, tracebacks included.
    """

    def __init__(
        self, level: str, *, as_json: bool, stream: TextIO | None = None, redactor: Redactor = PLAIN_REDACTOR
    ) -> None:
        super().__init__()
        self._root_level = level
        self.setFormatter(formatter(redactor, as_json=as_json))
        self._line = json_line if as_json else console_line
        self._writer = LineWriter(sys.stderr if stream is None else stream)
        self._tells_runs = False

    def install(self) -> None:
        """Become the root handler, unless the process (an embedding program, a test runner) already has one."""
        if logging.getLogger().handlers:
            return
        logging.basicConfig(handlers=[self], level=self._root_level)
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._tells_runs = logging.getLogger().isEnabledFor(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of the standard library's logging."""
        try:
            self._writer.write(self.format(record), urgent=record.levelno >= logging.WARNING)
        except Exception as error:  # a wrong format in somebody's log call must not fail what it tells of
            self._tell_of_failure(record, error)

    def _tell_of_failure(self, record: logging.LogRecord, error: Exception) -> None:
        """Say where a call of the log is wrong; `handleError` would print what it was to tell, as it is."""
        if logging.raiseExceptions:
            fields = {"file": record.filename, "line": record.lineno, "error": type(error).__name__}
            self._writer.write(self._line(time(), "ERROR", __name__, "a log call is wrong", fields), urgent=True)

    def run_finished(self, run: FinishedRun, seconds: float) -> None:
        """Tell of a run: the one line that a busy service writes, and so the one that skips making a LogRecord."""
        fields = {
            "run_id": run.run_id,
            "status": run.status,
            "steps": len(run.trace),
            "ms": round(seconds * 1000, 2),
        }
        if self._tells_runs:
            line = self._line(time(), "INFO", __name__, "run finished", {**run_place(), **fields})
            self._writer.write(line, urgent=False)
        else:
            logging.getLogger(__name__).info("run finished", extra={"fields": fields})

    def flush(self) -> None:
        """Write what waits."""
        self._writer.flush()
