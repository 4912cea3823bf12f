"""The commands: `serve` and `run`."""

from __future__ import annotations

import argparse
import asyncio
import errno
import io
import logging
import os
import socket
import sys
from collections.abc import Sequence
from time import time

import msgspec

from . import __version__
from .agent.core import Agent
from .agent.events import RunFinished, ToolCompleted
from .agent.result import AgentResult
from .config import Environment, Settings
from .errors import AgentCoreError, PortInUseError
from .jsonvalue import wire_form
from .telemetry.logs import json_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 success, 1 the run failed, 2 it could not start."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        return int(options.command(options))
    except AgentCoreError as error:
        print(f"llm-agent-core: {error}", file=sys.stderr)  # noqa: T201 - a command talks to a terminal
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-agent-core", description="The execution core under AI orchestrators."
    )
    parser.add_argument("--version", action="version", version=f"llm-agent-core {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the HTTP API")
    serve.add_argument("--host", help="address to listen on (default: HOST, or 127.0.0.1)")
    serve.add_argument(
        "--port",
        type=_port,
        help="port to listen on (default: PORT, or 8000)",
    )
    serve.set_defaults(command=_serve)
    run = commands.add_parser("run", help="carry out one goal and print its steps and answer")
    run.add_argument("goal")
    run.add_argument("--context", help="background for the goal")
    run.add_argument("--tools", help="comma-separated names of the tools the run may use; empty for none")
    run.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    run.set_defaults(command=_run)
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; it is a number from 0 to 65535")
    return port


def _serve(options: argparse.Namespace) -> int:
    import uvicorn  # here, because `run` needs no web server

    settings = Settings()
    host = options.host or settings.host  # "" would be every interface there is
    port = settings.port if options.port is None else options.port
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start-up lines say what ours says
    config = uvicorn.Config(
        f"{__package__}.main:app",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who the client says it is
        timeout_graceful_shutdown=30,
    )
    config.load()  # builds the app: what is wrong with it is said before anything listens
    with _listen(host, port) as listener:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        print(_greeting(settings, address), file=sys.stderr, flush=True)  # noqa: T201
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _greeting(settings: Settings, address: str) -> str:
    """Return the first line of the log, in the form that the others will have."""
    if settings.environment is Environment.PRODUCTION:
        fields = {"address": address, "version": __version__, "model": settings.llm_model}
        return json_line(time(), "INFO", __name__, "serving", fields)
    return (
        f"llm-agent-core {__version__} on {address} (API at /docs), model {settings.llm_model}, "
        f"{settings.environment}. Ctrl-C stops it."
    )


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortInUseError: the address is taken, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        hint = ""
        if error.errno == errno.EADDRINUSE:
            hint = f" Stop the program that has the port, or choose another: PORT={port % 65_535 + 1}."
        raise PortInUseError(f"Cannot listen on {host}, port {port}: {reason}.{hint}") from error


def _run(options: argparse.Namespace) -> int:
    from .bootstrap import build_services

    agent = build_services(Settings()).agent
    tools = None if options.tools is None else [name.strip() for name in options.tools.split(",") if name.strip()]
    result = asyncio.run(_drain(agent, options.goal, options.context, tools, show=not options.json))
    print(result.model_dump_json() if options.json else _printable(result.output))  # noqa: T201
    return 0 if result.status == "success" else 1


async def _drain(
    agent: Agent, goal: str, context: str | None, tools: list[str] | None, *, show: bool
) -> AgentResult:
    """Carry out the goal, printing each step as it happens."""
    trace = []
    async for event in agent.stream(goal, context, tools):
        if isinstance(event, ToolCompleted):
            trace.append(event.step)
            if show:
                print(_line(event), flush=True)  # noqa: T201
        if isinstance(event, RunFinished):
            return AgentResult(event.status, event.output, trace)
    raise AssertionError("a run ends with RunFinished")


def _printable(text: str) -> str:
    """Return text that cannot command a terminal: control characters other than line ends become escapes."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def _line(event: ToolCompleted) -> str:
    step = event.step
    outcome = step.error or msgspec.json.encode(wire_form(step.output or {})).decode()
    return f"step {step.step}  {step.tool} {msgspec.json.encode(wire_form(step.input)).decode()} -> {outcome}"


if __name__ == "__main__":
    raise SystemExit(main())
