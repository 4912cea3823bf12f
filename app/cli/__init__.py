"""The commands: each module is one of them, and imports what it needs when it is used."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import AgentCoreError
from . import database, keys, run, runs, serve, trace, usage, worker
from .terminal import complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 success, 1 what it looked at or did failed, 2 it could not."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        return int(options.command(options))
    except AgentCoreError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        said = _what_the_database_says(error)
        if said is None:
            raise
        complain(f"The database cannot be used: {said}. It may be damaged; then a backup has to be restored.")
        return 2


def _what_the_database_says(error: Exception) -> str | None:
    """Return in one line what the database refuses, or that it holds what no program has written; else None."""
    import msgspec
    from sqlalchemy.exc import DBAPIError

    from ..storage.failures import one_line

    if isinstance(error, DBAPIError | UnicodeError | OverflowError | msgspec.DecodeError):
        return one_line(error).rstrip(".")
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-agent-core", description="The execution core under AI orchestrators."
    )
    parser.add_argument("--version", action="version", version=f"llm-agent-core {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (serve, run, worker, runs, trace, usage, keys, database):
        module.add_to(commands)
    return parser
