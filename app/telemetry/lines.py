"""Lines of the log: how a record becomes one, without secrets and with where it comes from."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..redaction import Redactor
from .place import place

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

_encoder = msgspec.json.Encoder(enc_hook=str)

_UNSEEN: Final = r"\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""What ends a line somewhere, moves a terminal's cursor, or turns the direction of reading (CVE-2021-42574)."""

_CONTROL: Final = re.compile(rf"[\x00-\x1f{_UNSEEN}]")
_IN_JSON: Final = re.compile(f"[{_UNSEEN}]")


def console_line(created: float, level: str, _logger: str, message: str, fields: Mapping[str, object]) -> str:
    """Return `12:00:01 INFO    run finished run_id=... status=success`, in UTC, and whatever the text one line."""
    seconds = int(created) % 86_400
    line = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} {level:<7} {message}"
    for key, value in fields.items():
        line += f" {key}={value}"
    return line if line.isascii() and line.isprintable() else _CONTROL.sub(_escape, line)


def json_line(created: float, level: str, logger: str, message: str, fields: Mapping[str, object]) -> str:
    """Return one JSON object."""
    at = datetime.fromtimestamp(created, UTC)
    made = {"time": at, "level": level.lower(), "logger": logger, "message": message, **fields}
    try:
        line = _encoder.encode(made).decode()
    except UnicodeEncodeError:  # a lone surrogate in somebody's text; the other writer makes it an escape
        return json.dumps({**made, "time": at.isoformat()}, default=str)
    return line if line.isascii() and "\x7f" not in line else _IN_JSON.sub(_unicode_escape, line)


def formatter(redactor: Redactor, *, as_json: bool) -> logging.Formatter:
    """Return what makes a line of a record of `logging`, or of structlog's own loggers wrapped for it.

    What is logged as `logger.info("text", extra={"fields": {...}})` carries the fields; so does the keyword of a
    logger of structlog, and what is bound in `structlog.contextvars`.
    """
    # here, not above: it takes as long as the rest of this package, and several times that where rich is installed
    import structlog

    def redact(_: Any, __: str, event: EventDict) -> EventDict:
        record = event.pop("_record")
        plain = {name: _plain(value) for name, value in event.items() if name != "_from_structlog"}
        masked = redactor.object(plain)
        masked["_record"] = record
        return masked

    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_place,
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        redact,
        _render_json if as_json else _render_console,
    ]
    return structlog.stdlib.ProcessorFormatter(processors=chain, foreign_pre_chain=[_with_fields])


def _with_fields(_: Any, __: str, event: EventDict) -> EventDict:
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _with_place(_: Any, __: str, event: EventDict) -> EventDict:
    for name, value in place().items():
        event.setdefault(name, value)
    return event


def _render_json(_: Any, __: str, event: EventDict) -> str:
    record = event.pop("_record")
    return json_line(record.created, record.levelname, record.name, str(event.pop("event", "")), event)


def _render_console(_: Any, __: str, event: EventDict) -> str:
    """Return a line, and below it, set in so that none of it looks like a line of its own, a traceback."""
    record, exception = event.pop("_record"), event.pop("exception", None)
    line = console_line(record.created, record.levelname, record.name, str(event.pop("event", "")), event)
    if exception is not None:
        told = (_CONTROL.sub(_escape, part) for part in str(exception).split("\n"))
        line += "".join(f"\n    {part}" for part in told)
    return line


def _plain(value: object) -> Any:
    """Return a value as the JSON that can be looked through for secrets."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _unicode_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
