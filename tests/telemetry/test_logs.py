from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import app.telemetry.logs as logs
from app.agent.events import RunStarted
from app.redaction import Redactor
from app.runs.models import FinishedRun, RunKey
from app.telemetry.logs import LineWriter, Log, console_line, json_line
from app.telemetry.place import RunPlace
from app.tools.call import ToolCallContext, in_call


class Stream(io.StringIO):
    """Counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def stream() -> Stream:
    return Stream()


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("app.test", level, "f", 1, message, (), None)
    made.created = 1_800_000_000.25
    made.fields = fields
    return made


def test_development_logs_are_readable() -> None:
    line = console_line(1_800_000_000.25, "INFO", "app.test", "run finished", {"run_id": "r1", "steps": 2})
    assert line == "08:00:00 INFO    run finished run_id=r1 steps=2"


def test_production_logs_are_one_json_object_a_line() -> None:
    line = json_line(1_800_000_000.25, "INFO", "app.test", "run\nfinished", {"run_id": "r1", "odd": Path("x")})
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250000Z",
        "level": "info",
        "logger": "app.test",
        "message": "run\nfinished",
        "run_id": "r1",
        "odd": "x",
    }


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "end", ["\r\n", "\n", "\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029", "\x1b[2J\x1b[H", "\u202e"]
)
def test_text_in_a_message_cannot_forge_a_line(stream: Stream, as_json: bool, end: str) -> None:
    log = Log("INFO", as_json=as_json, stream=stream)
    log.emit(record(f"evil{end}INFO forged", goal=f"a{end}b"))
    assert len(stream.lines) == 1
    assert end.strip("[2JH") not in stream.getvalue().removesuffix("\n")
    if as_json:
        assert json.loads(stream.getvalue())["message"] == f"evil{end}INFO forged"


@pytest.mark.parametrize("as_json", [True, False])
def test_text_in_an_exception_cannot_either(stream: Stream, as_json: bool) -> None:
    made = record("it broke", logging.ERROR)
    try:
        raise ValueError("inside\n08:00:00 INFO    forged\u2028\x1b[2J")
    except ValueError:
        made.exc_info = sys.exc_info()
    Log("INFO", as_json=as_json, stream=stream).emit(made)
    assert [line for line in stream.lines if not line.startswith("    ")] == stream.lines[:1]
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_is_told_with_its_traceback(stream: Stream, as_json: bool) -> None:
    made = record("it broke", logging.ERROR)
    try:
        raise ValueError("inside")
    except ValueError:
        made.exc_info = sys.exc_info()
    Log("INFO", as_json=as_json, stream=stream).emit(made)
    told = json.loads(stream.getvalue())["exception"] if as_json else stream.getvalue()
    assert "ValueError: inside" in told
    assert "test_logs.py" in told


def run_finished(log: Log) -> None:
    log.run_finished(FinishedRun("run-1", "success", "four", []), 0.00123)


def test_a_finished_run_goes_through_logging_where_somebody_else_set_it_up(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log("INFO", as_json=True, stream=stream)
    log.install()  # pytest has its handlers on the root
    with caplog.at_level(logging.INFO):
        run_finished(log)
    assert stream.getvalue() == ""
    (told,) = caplog.records
    assert told.fields == {"run_id": "run-1", "status": "success", "steps": 0, "ms": 1.23}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("level", "told"), [("INFO", True), ("WARNING", False)])
@pytest.mark.parametrize("as_json", [True, False])
def test_an_installed_log_tells_of_runs_unless_the_level_is_above_them(
    level: str, told: bool, as_json: bool
) -> None:
    code = (
        "import logging; from app.telemetry.logs import Log; from app.runs.models import FinishedRun\n"
        f"log = Log({level!r}, as_json={as_json}); log.install()\n"
        "log.run_finished(FinishedRun('run-1', 'success', 'four', []), 0.001)\n"
        "logging.getLogger('x').warning('careful'); logging.getLogger('x').debug('hidden')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("run-1" in ran.stderr) is told
    assert "careful" in ran.stderr
    assert "hidden" not in ran.stderr
    assert ran.stdout == ""


def test_what_speaks_to_models_tells_nothing_below_a_warning_whatever_the_level() -> None:
    code = (
        "import logging; from app.telemetry.logs import Log; Log('DEBUG', as_json=True).install()\n"
        "for name in ('httpx2', 'httpcore2.http11', 'openai._base_client', 'anthropic', 'google_genai.models'):\n"
        "    logging.getLogger(name).info('POST'); logging.getLogger(name).debug('headers')\n"
        "    logging.getLogger(name).warning('careful')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in ran.stderr.splitlines()] == ["careful"] * 5


async def test_the_lines_of_a_busy_moment_are_written_together(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH_AFTER_S", 0)
    writer = LineWriter(stream)
    for number in range(5):
        writer.write(str(number), urgent=False)
    assert stream.writes == 0
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (stream.writes, stream.lines) == (1, ["0", "1", "2", "3", "4"])
    writer.write("5", urgent=False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stream.lines[-1] == "5"


async def test_what_is_urgent_is_written_at_once_with_what_came_before_it(stream: Stream) -> None:
    log = Log("INFO", as_json=False, stream=stream)
    log.emit(record("first"))
    log.emit(record("second", logging.WARNING))
    assert [line.split()[-1] for line in stream.lines] == ["first", "second"]


def test_without_an_event_loop_a_line_is_written_at_once(stream: Stream) -> None:
    LineWriter(stream).write("now", urgent=False)
    assert stream.lines == ["now"]


async def test_nothing_is_lost_when_the_log_is_flushed(stream: Stream) -> None:
    log = Log("INFO", as_json=False, stream=stream)
    log.emit(record("last words"))
    log.flush()
    log.flush()
    assert stream.writes == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_no_text_is_too_odd_to_be_logged(stream: Stream, as_json: bool) -> None:
    log = Log("INFO", as_json=as_json, stream=stream)
    log.emit(record("odd \ud800", goal="\udfff"))
    assert "odd" in stream.lines[0]
    stream.getvalue().encode()


def test_a_wrong_log_call_does_not_fail_what_it_tells_of(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    broken = record("%d")
    broken.args = ("x",)
    Log("INFO", as_json=False, stream=stream).emit(broken)
    assert stream.lines == []


def test_where_a_log_call_is_wrong_is_told_and_not_what_it_was_to_tell(
    stream: Stream, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = record("%d")
    broken.args = ("canary",)
    Log("INFO", as_json=True, stream=stream).emit(broken)
    (told,) = [json.loads(line) for line in stream.lines]
    assert (told["message"], told["line"], told["error"]) == ("a log call is wrong", 1, "TypeError")
    assert "canary" not in stream.getvalue() + "".join(capfd.readouterr())


def test_a_stream_that_is_gone_does_not_either() -> None:
    gone = io.StringIO()
    gone.close()
    LineWriter(gone).write("nobody reads this", urgent=True)


def test_lines_of_a_loop_that_has_closed_are_written_by_the_next(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LineWriter(stream)

    async def write(text: str) -> None:
        writer.write(text, urgent=False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(write("first"))
    assert stream.lines == []
    monkeypatch.setattr(logs, "FLUSH_AFTER_S", 0)
    asyncio.run(write("second"))
    assert stream.lines == ["first", "second"]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_logged(stream: Stream, as_json: bool) -> None:
    log = Log("INFO", as_json=as_json, stream=stream, redactor=Redactor(['canary-"secret"']))
    made = record(
        'use canary-"secret" now', logging.ERROR, **{"pass-word": "hidden-1"}, deep={"Api-Key": ["hidden-2"]}
    )
    try:
        raise ValueError('canary-"secret" and Bearer hidden3456789abcdef')
    except ValueError:
        made.exc_info = sys.exc_info()
    log.emit(made)
    told = stream.getvalue()
    assert told.count("[redacted]") >= 5
    assert "hidden" not in told
    assert "canary-" not in told.replace("raise ValueError('canary-", "")  # the source is no secret


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_says_which_run_and_step_it_comes_from(stream: Stream, as_json: bool) -> None:
    log, run_place = Log("INFO", as_json=as_json, stream=stream), RunPlace()
    key = RunKey("acme", "run-1")
    log.emit(record("before"))
    run_place.began(key, RunStarted("go", None, ()))
    log.emit(record("in the run"))
    with in_call(ToolCallContext("run-1", 3, 1, "acme")):
        log.emit(record("in the step"))
    run_place.left(key)
    log.emit(record("after"))
    shown = [line.replace('":', "=").replace('"', "") for line in stream.lines]
    assert ["run_id=run-1" in line for line in shown] == [False, True, True, False], shown
    assert ["tenant=acme" in line for line in shown] == [False, True, True, False]
    assert ["step=3" in line for line in shown] == [False, False, True, False]


def test_the_line_of_a_finished_run_says_whose_it_was() -> None:
    code = (
        "from app.telemetry.logs import Log; from app.telemetry.place import RunPlace\n"
        "from app.runs.models import FinishedRun, RunKey\n"
        "log = Log('INFO', as_json=True); log.install(); RunPlace().began(RunKey('acme', 'run-1'), None)\n"
        "log.run_finished(FinishedRun('run-1', 'success', 'four', []), 0.001)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stderr)["tenant"] == "acme"


def test_what_a_logger_of_structlog_says_looks_like_everything_else(stream: Stream) -> None:
    import structlog

    log = Log("INFO", as_json=True, stream=stream)
    logger = logging.getLogger("test.structlog")
    logger.addHandler(log)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    wrapped = structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    with structlog.contextvars.bound_contextvars(desk="north"):
        wrapped.info("hello", number=7, cookie="hidden")
    logger.removeHandler(log)
    told = json.loads(stream.getvalue())
    assert (told["message"], told["number"], told["cookie"], told["desk"]) == ("hello", 7, "[redacted]", "north")
    assert told["logger"] == "test.structlog"
