"""What is counted of runs, requests, the journal and the backlog, and that nobody makes series."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import pytest
from durable_runs import House, until
from fake_models import NamedModel
from fakes import FakeTool, answer, call
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.agent.core import Agent
from app.agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolInterrupted,
)
from app.errors import FencedError, LLMUnavailableError, StorageUnavailableError
from app.llm.interface import Usage
from app.runs.backlog import Backlog
from app.runs.models import RunKey
from app.runs.observers import Observers
from app.storage.backlog import SqlBacklog
from app.storage.database import Database
from app.storage.writer import GroupWriter
from app.telemetry.metrics import Metrics
from app.tools.base import ToolRegistry
from app.tools.builtin import default_tools

KEY = RunKey("default", "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d")
MODELS = ("openai:gpt-6", "anthropic:claude-sonnet-5", "mock")


class Source:
    """A backlog that a test sets."""

    def __init__(self) -> None:
        self.backlog: Backlog | Exception = Backlog()
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self) -> Backlog:
        self.reads += 1
        await self.answers.wait()
        if isinstance(self.backlog, Exception):
            raise self.backlog
        return self.backlog


class Meters:
    """Metrics, and what they say."""

    def __init__(self, source: Source | None = None) -> None:
        self.source = source or Source()
        self.metrics = Metrics(default_tools(), MODELS, self.source)

    def tell(self, *events: Event, key: RunKey = KEY) -> None:
        """Tell of a run that this process drives."""
        self.metrics.runs.began(key, RunStarted("go", None, ()))
        for event in events:
            self.metrics.runs.recorded(key, event)
        self.metrics.runs.left(key)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"agent_core_{name}", labels)

    def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
        }


@pytest.fixture
def meters() -> Meters:
    return Meters()


def step(tool: str = "math", error: str | None = None, seconds: float = 0.02) -> ToolCompleted:
    output = {"result": 1} if error is None else None
    return ToolCompleted(Step(1, tool, {}, output, error, datetime.now(UTC)), seconds)


@pytest.mark.parametrize(
    ("status", "reason", "group"),
    [
        ("success", None, "none"),
        ("error", "token_limit", "budget"),
        ("error", "deadline", "limit"),
        ("error", "llm_rate_limited", "model"),
        ("error", "model_response_invalid", "model"),
        ("error", "poison", "lost"),
        ("error", "something a client made up", "other"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_a_run_is_counted_by_how_it_ended(meters: Meters, status: Any, reason: str | None, group: str) -> None:
    meters.tell(RunFinished(status, "", reason))
    assert meters.value("runs_finished_total", status=status, reason=group) == 1
    assert meters.value("run_duration_seconds_count", status=status) == 1


def test_a_run_that_is_only_ended_here_has_no_duration(meters: Meters) -> None:
    meters.metrics.runs.recorded(KEY, RunFinished("cancelled", "", "cancelled"))
    assert meters.value("runs_finished_total", status="cancelled", reason="cancelled") == 1
    assert meters.value("run_duration_seconds_count", status="cancelled") == 0


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (step(), "ok"),
        (step(error="timeout: It took too long."), "error"),
        (step(error="permission_denied: The scope tools:math is missing."), "denied"),
        (ToolInterrupted(1, "math", 1, "The process died.", in_doubt=True), "in_doubt"),
    ],
)
def test_a_step_is_counted_by_its_outcome(meters: Meters, event: Event, outcome: str) -> None:
    meters.tell(event)
    assert meters.value("steps_total", tool="math", outcome=outcome) == 1


def test_a_call_that_will_be_made_again_is_no_step(meters: Meters) -> None:
    meters.tell(ToolInterrupted(1, "math", 1, "It timed out.", in_doubt=False))
    assert meters.value("steps_total", tool="math", outcome="in_doubt") is None


def test_the_duration_of_a_step_is_that_of_its_call(meters: Meters) -> None:
    meters.tell(step(seconds=0.02), step(error="unknown_tool: There is none.", seconds=0.0))
    assert meters.value("step_duration_seconds_count", tool="math") == 1
    assert meters.value("step_duration_seconds_sum", tool="math") == 0.02


def test_a_model_is_counted_by_its_name_in_the_settings(meters: Meters) -> None:
    meters.tell(
        ModelRequested(1, MODELS[0]),
        ModelDecided(1, "", model="gpt-6-2026-11-01-preview", usage=Usage(100, 20, 50, 5), cost=1_500_000_000),
    )
    assert meters.value("model_calls_total", model=MODELS[0], outcome="ok") == 1
    assert meters.value("model_call_duration_seconds_count", model=MODELS[0]) == 1
    for kind, tokens in (("input", 100), ("output", 20), ("cache_read", 50), ("cache_write", 5)):
        assert meters.value("model_tokens_total", model=MODELS[0], kind=kind) == tokens
    assert meters.value("model_cost_usd_total", model=MODELS[0]) == 1.5


def test_an_answer_that_is_no_decision_costs_too(meters: Meters) -> None:
    meters.tell(ModelRequested(1, MODELS[0]), ModelRejected(1, "No JSON.", Usage(7, 0), 1000))
    assert meters.value("model_calls_total", model=MODELS[0], outcome="rejected") == 1
    assert meters.value("model_tokens_total", model=MODELS[0], kind="input") == 7
    assert meters.value("model_cost_usd_total", model=MODELS[0]) == 1e-6


@pytest.mark.parametrize(("code", "outcome"), [("llm_timeout", "timeout"), ("made_up", "error")])
def test_a_call_that_failed_is_counted_by_how(meters: Meters, code: str, outcome: str) -> None:
    meters.tell(ModelRequested(1, MODELS[0]), ModelFailed(1, MODELS[0], code, "", False))
    assert meters.value("model_calls_total", model=MODELS[0], outcome=outcome) == 1


def test_a_call_that_its_run_did_not_live_to_see_answered_is_counted(meters: Meters) -> None:
    meters.tell(ModelRequested(1), RunFinished("error", "", "time_limit"))
    assert meters.value("model_calls_total", model="unknown", outcome="error") == 1


def test_what_a_server_claims_to_have_taken_breaks_nothing(meters: Meters) -> None:
    meters.tell(ModelRequested(1, MODELS[0]), ModelDecided(1, "", usage=Usage(-5, 10**300), cost=-1))
    assert meters.value("model_tokens_total", model=MODELS[0], kind="input") is None
    assert meters.value("model_tokens_total", model=MODELS[0], kind="output") == 10**12


def test_a_failover_is_another_model_after_a_failure_in_the_same_turn(meters: Meters) -> None:
    first, second, _ = MODELS
    failed = ModelFailed(1, first, "llm_unavailable", "", False)
    meters.tell(ModelRequested(1, first), failed, ModelRequested(1, first), failed, ModelRequested(1, second))
    assert meters.value("model_failovers_total", failed_model=first, model=second) == 1
    meters.tell(
        ModelRequested(1, first), failed, ModelRequested(1, first), ModelDecided(1, ""), ModelRequested(2, second)
    )
    meters.tell(ModelRequested(2, second))
    assert meters.value("model_failovers_total", failed_model=first, model=second) == 1


@pytest.mark.parametrize(
    ("code", "budget"),
    [
        ("token_limit", "tokens"),
        ("cost_limit", "cost"),
        ("invalid_budget", "too_large"),
        ("unpriced_model", "unpriced"),
    ],
)
def test_what_a_budget_refuses_is_counted(meters: Meters, code: str, budget: str) -> None:
    assert meters.value("budget_refusals_total", budget=budget) == 0
    if code.endswith("_limit"):
        meters.tell(RunFinished("error", "", code))
    else:
        meters.metrics.refused(code)
    assert meters.value("budget_refusals_total", budget=budget) == 1


def test_refused_requests_are_counted_by_why(meters: Meters) -> None:
    for reason in ("unauthenticated", "permission_denied", "rate_limited", "quota_exceeded"):
        meters.metrics.refused(reason)
        assert meters.value("requests_refused_total", reason=reason) == 1
    before = meters.series()
    meters.metrics.refused("invalid_request")
    assert meters.series() == before


def test_a_stream_is_a_request_whose_duration_is_no_latency(meters: Meters) -> None:
    route = "/api/v1/runs/{run_id}/events"
    meters.metrics.requests.answered("GET", route, 200, 500.0, is_stream=True)
    assert meters.value("http_requests_total", method="GET", route=route, status="200") == 1
    assert meters.value("http_stream_duration_seconds_sum", route=route) == 500
    assert meters.value("http_request_duration_seconds_count", method="GET", route=route) is None


def test_whatever_is_sent_makes_no_series(meters: Meters) -> None:
    hostile = random.Random(5)  # noqa: S311

    def text() -> str:
        return "".join(chr(hostile.randrange(32, 0x2FFF)) for _ in range(12))

    def everything(word: Callable[[], str]) -> None:
        key = RunKey(word(), word())
        decided = ModelDecided(1, word(), model=word(), usage=Usage(1, 1, 1, 1), cost=1, finish_reason=word())
        failed = ModelFailed(1, word(), word(), word(), False)
        meters.tell(ModelRequested(1, word()), decided, ModelRequested(2, word()), failed, key=key)
        meters.tell(failed, ModelRequested(1, word()), RunFinished("error", word(), word()), key=key)
        meters.tell(step(word(), f"{word()}: {word()}"), step(word()), key=key)
        meters.tell(ToolInterrupted(1, word(), 1, word(), in_doubt=True), key=key)
        meters.metrics.requests.answered(word(), "unmatched", 404, 0.01, is_stream=False)
        meters.metrics.refused(word())

    everything(text)
    before = meters.series()
    kept = [len(vars(part)) for part in (meters.metrics.runs, meters.metrics.requests)]
    for _ in range(3000):
        everything(text)
    assert meters.series() == before
    assert [len(vars(part)) for part in (meters.metrics.runs, meters.metrics.requests)] == kept
    remembered = [
        len(held)
        for part in (meters.metrics.runs, meters.metrics.requests, meters.metrics.runs._models)
        for held in vars(part).values()
        if isinstance(held, dict)
    ]
    assert max(remembered) < 20


def test_a_tool_that_is_registered_later_has_its_name() -> None:
    tools = ToolRegistry()
    metrics = Metrics(tools, MODELS, Source())
    metrics.runs.recorded(KEY, step("late"))
    tools.register(FakeTool(name="late"))
    metrics.runs.recorded(KEY, step("late"))
    for name in ("unknown", "late"):
        assert metrics.registry.get_sample_value("agent_core_steps_total", {"tool": name, "outcome": "ok"}) == 1


async def test_a_real_run_is_counted_once(sqlite_database: Database) -> None:
    metrics = Metrics(default_tools(), MODELS, SqlBacklog(sqlite_database))
    down = LLMUnavailableError("It is down.", retry_after_s=60, may_be_paid=False)
    first = NamedModel(MODELS[0], down)
    second = NamedModel(MODELS[1], call("math", expression="6*7"), answer("42"))
    agent = Agent(first, fallbacks=[second], tools=default_tools(), max_retries=0)
    async with House(sqlite_database, agent) as house:
        house.executor.driver._observers = Observers([metrics.runs])
        key = await house.submit()
        await house.execute(key)
        assert (await house.run(key)).status == "success"
    value = metrics.registry.get_sample_value
    assert value("agent_core_runs_finished_total", {"status": "success", "reason": "none"}) == 1
    assert value("agent_core_steps_total", {"tool": "math", "outcome": "ok"}) == 1
    assert value("agent_core_model_calls_total", {"model": MODELS[0], "outcome": "unavailable"}) == 1
    assert value("agent_core_model_calls_total", {"model": MODELS[1], "outcome": "ok"}) == 2
    assert value("agent_core_model_failovers_total", {"failed_model": MODELS[0], "model": MODELS[1]}) == 1
    assert not metrics.runs._under_way


class News:
    def committed(self, *_: object) -> None: ...

    def changed(self, *_: object) -> None: ...


async def test_commits_are_counted_with_their_size(sqlite_database: Database) -> None:
    meters = Meters()
    writer = GroupWriter(sqlite_database, News(), on_commit=meters.metrics.journal.committed)
    writer.start()
    await asyncio.gather(*(writer.transact(lambda _: None) for _ in range(5)))
    await until(lambda: meters.value("journal_commits_total", outcome="ok"))
    assert meters.value("journal_commit_units_sum") == 5
    assert meters.value("journal_commit_duration_seconds_count") == 1
    await writer.stop()


async def test_a_commit_that_was_given_up_has_failed_and_a_call_that_raises_has_not(
    sqlite_database: Database,
) -> None:
    def fail(_: object) -> None:
        raise LookupError

    def fenced(_: object) -> None:
        raise FencedError("It is somebody else's.")

    def down(_: object) -> None:
        raise StorageUnavailableError("It is down.")

    meters = Meters()
    writer = GroupWriter(sqlite_database, News(), on_commit=meters.metrics.journal.committed)
    writer.start()
    for work, error in ((fail, LookupError), (fenced, FencedError), (down, StorageUnavailableError)):
        with pytest.raises(error):
            await writer.transact(work)
    await until(lambda: meters.value("journal_commit_units_count") == 3)
    assert meters.value("journal_commits_total", outcome="ok") == 2
    assert meters.value("journal_commits_total", outcome="failed") == 1
    await writer.stop()


async def test_who_is_told_of_commits_cannot_stop_them(sqlite_database: Database) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a broken observer")

    writer = GroupWriter(sqlite_database, News(), on_commit=broken)
    writer.start()
    for _ in range(2):
        assert await writer.transact(lambda _: 7) == 7
    assert writer.is_alive
    await writer.stop()
    assert not writer.is_alive


async def scraped(metrics: Metrics) -> dict[str, float]:
    text, _ = await metrics.scrape("")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_the_backlog_is_read_when_somebody_asks_and_at_most_once_a_second() -> None:
    meters = Meters()
    meters.source.backlog = Backlog(queued=3, running=2, waiting=1, oldest_queued_s=12.5)
    many = await asyncio.gather(*(scraped(meters.metrics) for _ in range(10)))
    assert meters.source.reads == 1
    for values in many:
        assert values["agent_core_queued_runs"] == 3
        assert values["agent_core_running_runs"] == 2
        assert values["agent_core_waiting_runs"] == 1
        assert values["agent_core_oldest_queued_run_age_seconds"] == 12.5
        assert values["agent_core_database_up"] == 1


async def test_a_database_that_does_not_answer_takes_a_second_and_is_said_to_be_down() -> None:
    meters = Meters()
    meters.source.answers.clear()
    began = monotonic()
    values = await scraped(meters.metrics)
    assert monotonic() - began < 3
    assert values["agent_core_database_up"] == 0
    assert "agent_core_queued_runs" not in values
    assert "process_start_time_seconds" in values


async def test_a_database_that_fails_is_said_to_be_down() -> None:
    meters = Meters()
    meters.source.backlog = StorageUnavailableError("It is down.")
    assert (await scraped(meters.metrics))["agent_core_database_up"] == 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", "application/openmetrics-text"),
        ("application/openmetrics-text; version=9é.x\\evil", "application/openmetrics-text; version=1.0.0;"),
    ],
)
async def test_the_form_is_the_one_that_is_accepted(meters: Meters, accept: str, kind: str) -> None:
    text, content_type = await meters.metrics.scrape(accept)
    assert content_type.startswith(kind)
    assert text.endswith(b"# EOF\n") == kind.startswith("application")
    assert b"_created" not in text


def test_two_processes_in_one_have_registries_of_their_own(meters: Meters) -> None:
    other = Meters()
    meters.tell(step())
    assert other.value("steps_total", tool="math", outcome="ok") is None
    assert isinstance(other.metrics.registry, CollectorRegistry)


@pytest.mark.parametrize("module", ["app.agent.core", "app.bootstrap.services", "app.main"])
def test_without_metrics_nothing_of_them_is_loaded(module: str) -> None:
    program = f"import sys, {module}; print('prometheus_client' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={"METRICS": "false", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"
