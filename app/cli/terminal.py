"""What commands say on a terminal, and the kinds of arguments that several of them take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ..jsonvalue import JsonObject

    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def take_tenant(parser: argparse.ArgumentParser) -> None:
    """Let a command be told whose run it is about."""
    parser.add_argument("--tenant", default="default", metavar="NAME", help="whose run (default)")


def say(text: str) -> None:
    """Print a line of the command's result, at once."""
    print(text, flush=True)  # noqa: T201 - a command talks to a terminal


def complain(text: str) -> None:
    """Say why the command could not do it."""
    print(f"llm-agent-core: {text}", file=sys.stderr, flush=True)  # noqa: T201


def printable(text: str) -> str:
    """Return text that cannot command a terminal: control characters other than line ends become escapes."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def one_line(text: str, length: int = 200) -> str:
    """Return the text's beginning as one line that cannot command a terminal."""
    line = " ".join(text[: length * 2].split())
    return printable(line if len(line) <= length else line[: length - 1] + "…")


def stamp(at: datetime | None) -> str:
    """Return a moment to the second, in UTC; a dash for none."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what argparse turns an argument into a number with."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a number from {least} to {most}")
        return number

    return read


def json_object(text: str) -> JsonObject:
    """Return the JSON object that an argument is."""
    import msgspec

    try:
        value: JsonObject = msgspec.json.decode(text, type=dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"it is no JSON object: {error}") from None
    return value
