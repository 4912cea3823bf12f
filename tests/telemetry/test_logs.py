from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from app.telemetry.logs import ConsoleFormatter, JsonFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.getLogger("app.test").makeRecord(
        "app.test", logging.INFO, "f", 1, message, (), None, extra={"fields": fields}
    )
    made.created = 1_800_000_000.25
    return made


def failed() -> logging.LogRecord:
    made = record("it broke")
    try:
        raise ValueError("inside")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_development_logs_are_readable() -> None:
    line = ConsoleFormatter().format(record("run finished", run_id="r1", steps=2))
    assert line == "08:00:00 INFO    run finished run_id=r1 steps=2"


def test_production_logs_are_one_json_object_a_line() -> None:
    line = JsonFormatter().format(record("run finished", run_id="r1", odd=object))
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed | {"odd": None} == {
        "time": "2027-01-15T08:00:00.250000Z",
        "level": "info",
        "logger": "app.test",
        "message": "run finished",
        "run_id": "r1",
        "odd": None,
    }


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter()])
def test_text_in_a_message_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    assert len(formatter.format(record("evil\r\nINFO forged", goal="a\nb")).splitlines()) == 1


def test_an_exception_is_told_with_its_traceback() -> None:
    assert "ValueError: inside" in ConsoleFormatter().format(failed())
    assert "ValueError: inside" in json.loads(JsonFormatter().format(failed()))["exception"]


@pytest.mark.parametrize(("as_json", "expected"), [(True, '"message":"hello"'), (False, "INFO    hello")])
def test_set_up_writes_to_standard_error(as_json: bool, expected: str) -> None:
    code = (
        "import logging; from app.telemetry.logs import set_up_logging; "
        f"set_up_logging('INFO', as_json={as_json}); logging.getLogger('x').info('hello'); "
        "logging.getLogger('x').debug('hidden')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert expected in ran.stderr
    assert "hidden" not in ran.stderr
    assert ran.stdout == ""
