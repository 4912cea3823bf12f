"""Settings in, wired services out; no HTTP."""

from __future__ import annotations

import importlib

from msgspec import Struct

from .agent.core import Agent
from .config import Environment, Settings
from .errors import AgentCoreError, ToolModuleError
from .runs.notes import NoteService
from .runs.service import RunService
from .telemetry.logs import Log
from .tools.base import ToolSource
from .tools.builtin import default_tools


class Services(Struct, frozen=True):
    """What the adapters are given."""

    log: Log
    tools: ToolSource
    agent: Agent
    runs: RunService
    notes: NoteService


def build_services(settings: Settings) -> Services:
    """Wire everything that `settings` ask for.

    Raises:
        ToolModuleError: a module of TOOL_MODULES could not be imported.
    """
    for name in settings.tool_modules:
        _import_tool_module(name)
    tools = default_tools()
    agent = Agent(tools=tools, max_steps=settings.max_steps, max_seconds=settings.max_run_seconds)
    level = "DEBUG" if settings.debug else settings.log_level
    log = Log(level, as_json=settings.environment is Environment.PRODUCTION)
    return Services(
        log=log,
        tools=tools,
        agent=agent,
        runs=RunService(agent, log.run_finished),
        notes=NoteService(tools),
    )


def _import_tool_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except AgentCoreError as error:
        raise ToolModuleError(f"TOOL_MODULES: {name} could not register its tools: {error}") from error
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ToolModuleError(f"TOOL_MODULES: {name} could not be imported: {reason}") from error
