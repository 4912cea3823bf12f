"""Everything a process needs, put together: declared by `build_services`, alive between `start` and `stop`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from typing import TYPE_CHECKING

from ..agent.core import Agent
from ..config import Environment, ScheduledRun, Settings
from ..errors import AgentCoreError, CallerError, ConfigurationError, ToolModuleError, UnpricedModelError
from ..llm.interface import CompletionClient, LLMClient
from ..llm.trace_context import current_traceparent
from ..redaction import Redactor
from ..runs.models import DEFAULT_TENANT, RunKey, RunRequest
from ..runs.notes import NoteService
from ..runs.ports import RunObserver
from ..runs.reports import UsageReports
from ..runs.requests import new_run, opening
from ..runs.schedule import Schedule, Scheduler
from ..runs.service import RunService
from ..runs.usage import to_nano
from ..storage.notes import SqlNoteStore
from ..storage.usage import SqlUsageStore
from ..telemetry.logs import Log
from ..telemetry.place import RunPlace
from ..telemetry.tracing import open_tracing
from ..tools.base import ToolSource
from ..tools.builtin import tools_over
from .access import Access
from .database import declare_database
from .engine import Engine, process_name
from .models import Models
from .process import GRACE_S, Check, Process
from .production import refuse_the_forgotten, warnings_of
from .quotas import RunQuotas
from .readiness import Readiness
from .secrets import known_secrets

if TYPE_CHECKING:
    from ..storage.database import Database
    from ..telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Services:
    """What the adapters are given, and the process behind it.

    `stopping` is set when the process has been told to end, so that what would go on for ever ends by itself.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        llm_client: LLMClient | CompletionClient | None = None,
        executes: bool | None = None,
    ) -> None:
        level = "DEBUG" if settings.debug else settings.log_level
        self.redactor = Redactor(known_secrets(settings))
        self.log = Log(level, as_json=settings.environment is Environment.PRODUCTION, redactor=self.redactor)
        self.tracing = open_tracing(os.environ)
        self._warnings = list(warnings_of(settings))
        self.stopping = asyncio.Event()
        owner = process_name()
        database = declare_database(settings, owner=owner)
        self.access = Access(settings, database)
        # embedded, a process does all; over Postgres it accepts and answers, and workers execute
        executes = database.is_sqlite if executes is None else executes
        self.tools = tools_over(SqlNoteStore(database))
        self.models = Models(settings, llm_client=llm_client, executes=executes)
        self.agent = _agent(settings, self.models, self.tools)
        self.metrics = _metrics(settings, self.tools, database)
        quotas = RunQuotas(settings, database, has_own_model=llm_client is not None)
        engine = Engine(
            settings,
            database,
            self.agent,
            owner=owner,
            log=self.log,
            redactor=self.redactor,
            observers=[RunPlace(), *quotas.observers, *self._watchers()],
            on_commit=None if self.metrics is None else self.metrics.journal.committed,
        )
        self.runs = RunService(
            self.agent,
            engine.store,
            engine.queue,
            engine.executor,
            engine.feed,
            executes=executes,
            admission=quotas.admission,
            traceparent=current_traceparent,
        )
        self.usage = UsageReports(SqlUsageStore(database))
        self.notes = NoteService(self.tools)
        self._process = Process(
            settings,
            database,
            engine,
            runs=self.runs,
            scheduler=Scheduler([_schedule(entry, self.agent) for entry in settings.schedules]),
            quotas=quotas,
            executes=executes,
            metrics=self.metrics,
        )
        self.readiness = Readiness(database, self.stopping, lambda: self._process.is_whole)

    async def start(self) -> None:
        """Open the database and begin to work.

        Raises:
            SetupError, StorageError: the database cannot be had; nothing is left open.
        """
        await self._start()

    async def start_serving(self) -> None:
        """Start, once it is sure that whoever asks can be admitted.

        Raises:
            SetupError, StorageError: the database cannot be had, or keys cannot be checked; nothing is left open.
        """
        await self._start(self.access.check)

    async def _start(self, check: Check | None = None) -> None:
        try:
            await self._process.start(check)
        except BaseException:
            await self._close(0)
            raise

    def warn(self) -> None:
        """Log, once, what the operator should know and may have meant."""
        for warning in self._warnings:
            log.warning("%s", warning)
        self._warnings.clear()

    @property
    def died(self) -> asyncio.Event:
        """Set when the process has lost a part of itself, and has to be stopped and started again."""
        return self._process.died

    def announce_stop(self, grace_s: float) -> None:
        """Take note that the process has been told to end, once, before `stop`."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.runs.is_stopping = True
            self._process.announce_stop(grace_s)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Let steps end for `grace_s`, hand back what is unfinished, write what is to be written, close it all."""
        self.announce_stop(grace_s)
        await self._close(grace_s)

    async def _close(self, grace_s: float) -> None:
        await self._process.stop(grace_s)
        await self.models.aclose()
        await self.access.aclose()
        if self.tracing is not None:
            await self.tracing.stop()

    def _watchers(self) -> list[RunObserver]:
        """Return those who watch runs where metrics and traces are wanted."""
        return [watcher.runs for watcher in (self.metrics, self.tracing) if watcher is not None]


def build_services(
    settings: Settings, *, llm_client: LLMClient | CompletionClient | None = None, executes: bool | None = None
) -> Services:
    """Wire everything that `settings` ask for; nothing is opened yet.

    `llm_client` takes the place of the model that the settings name.
    `executes` says whether this process carries runs out; None is what suits the database.

    Raises:
        ToolModuleError: a module of TOOL_MODULES could not be imported.
        ConfigurationError: production refuses a setting, DATABASE_URL or SCHEDULES cannot be what they are, a
            schedule names unknown tools, or a model has no key, no address or no price where it needs one.
        MissingExtraError: something needs packages that are not installed.
    """
    refuse_the_forgotten(settings)
    for name in settings.tool_modules:
        _import_tool_module(name)
    return Services(settings, llm_client=llm_client, executes=executes)


def _metrics(settings: Settings, tools: ToolSource, database: Database) -> Metrics | None:
    if not settings.metrics:
        return None
    # loaded only here: a process that counts nothing is spared it
    from ..storage.backlog import SqlBacklog
    from ..telemetry.metrics import Metrics

    names = (settings.llm_model, *settings.llm_fallbacks, *settings.llm_models)
    return Metrics(tools, names, SqlBacklog(database))


def _agent(settings: Settings, models: Models, tools: ToolSource) -> Agent:
    agent = Agent(
        models.client,
        tools=tools,
        max_steps=settings.max_steps,
        max_seconds=settings.max_run_seconds,
        fallbacks=models.fallbacks,
        models=models.by_name,
        max_retries=settings.llm_max_retries,
        max_tokens=settings.max_tokens,
        max_cost=None if settings.max_cost_usd is None else to_nano(settings.max_cost_usd),
        allows_unknown_prices=settings.allow_unknown_prices,
        # providers' clients keep that time themselves; a second on top, so that theirs ends the call and says why
        call_seconds=settings.llm_timeout_s + 1,
    )
    try:  # what every run would be refused for
        agent.opening("any")
    except UnpricedModelError as error:
        raise ConfigurationError(f"MAX_COST_USD: {error} ALLOW_UNKNOWN_PRICES=true says that it may.") from error
    return agent


def _schedule(entry: ScheduledRun, agent: Agent) -> Schedule:
    request = RunRequest(
        entry.goal,
        entry.context,
        entry.tools,
        max_steps=entry.max_steps,
        priority=entry.priority,
        deadline_s=entry.deadline_s,
        metadata={"schedule": entry.name},
        model=entry.model,
        max_tokens=entry.max_tokens,
        max_cost_usd=entry.max_cost_usd,
        output_schema=entry.output_schema,
    )
    try:  # what would be refused when its time comes
        opening(agent, request)
        new_run(RunKey(DEFAULT_TENANT, ""), request)
    except CallerError as error:
        raise ConfigurationError(f"SCHEDULES, {entry.name[:80]!r}: {error}") from error
    return Schedule(entry.name, entry.cron, request)


def _import_tool_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except AgentCoreError as error:
        raise ToolModuleError(f"TOOL_MODULES: {name} could not register its tools: {error}") from error
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ToolModuleError(f"TOOL_MODULES: {name} could not be imported: {reason}") from error
