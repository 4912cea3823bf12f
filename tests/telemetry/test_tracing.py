from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from durable_runs import House
from fakes import FakeTool, ScriptedModel, answer, call, calls
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from app.agent.core import Agent, utc_now
from app.agent.events import (
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
)
from app.errors import ConfigurationError, MissingExtraError, ToolRejected
from app.llm.interface import Usage
from app.llm.trace_context import current_traceparent
from app.runs.executor import Executor
from app.runs.models import NewRun, RunKey
from app.runs.service import RunService
from app.storage.database import Database
from app.telemetry.place import span_ids
from app.telemetry.request_spans import TracedRequests
from app.telemetry.run_spans import RunSpans
from app.telemetry.tracing import SCHEMA_URL, open_tracing, wanted

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
KEY = RunKey("acme", "run-1")
CANARY = "canary-content"


class Collected:
    """A tracer, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test", "1", SCHEMA_URL)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == parent.context.span_id


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.mark.parametrize(
    ("environ", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_tracing_is_wanted_where_the_standard_variables_ask_for_it(
    environ: dict[str, str], is_wanted: bool
) -> None:
    assert wanted(environ) is is_wanted


@pytest.mark.parametrize(
    ("imported", "loaded"),
    [
        ("import app.telemetry.tracing, app.telemetry.logs, app.llm.trace_context", ("opentelemetry",)),
        # FastAPI loads the API by itself where it is installed
        ("import app.main", ("opentelemetry.sdk", "opentelemetry.exporter", "app.telemetry.run_spans")),
    ],
)
def test_nothing_of_it_is_loaded_unless_it_is_wanted(
    imported: str, loaded: tuple[str, ...], tmp_path: Path
) -> None:
    code = f"import sys; {imported}\nprint([name for name in sys.modules if name.startswith({loaded!r})])"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    plain["DATA_DIR"] = str(tmp_path)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: no exporter 'zipkin' is installed"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not installed",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: grpc is not installed",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: it has to begin with http://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_ENDPOINT: it has to begin with http://"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": " "},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: it has to begin with http://",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not installed",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "c:1"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: it has to begin with http://",
        ),
    ],
)
def test_what_would_export_nothing_is_refused_by_its_name(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(said)}"):
        open_tracing(environ)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match="uv sync --extra otel"):
        open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert open_tracing({}) is None


def test_an_exporter_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    with pytest.raises(ConfigurationError, match="carrier-pigeon"):
        open_tracing({"OTEL_TRACES_EXPORTER": "carrier-pigeon"})


class TracedHouse(House):
    """A process whose runs are traced."""

    def __init__(self, database: Database, agent: Agent, spans: RunSpans) -> None:
        super().__init__(database, agent)
        self.executor = Executor(agent, self.store, self.writer, "traced", voices=self.voices, observers=[spans])
        self.service = RunService(agent, self.store, self.queue, self.executor, self.feed, executes=True)


async def test_a_run_its_model_and_its_tools_are_spans_of_one_trace(
    collected: Collected, sqlite_database: Database
) -> None:
    seen: list[str | None] = []

    async def probe(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        with collected.tracer.start_as_current_span("inside"):
            seen.append(current_traceparent())
        return {"text": CANARY}

    def refuse(given: dict[str, Any]) -> dict[str, Any]:
        seen.append(current_traceparent())
        raise ToolRejected(CANARY, "not_today")

    model = ScriptedModel(
        calls(("probe", {"text": CANARY}), ("refuse", {})), call("nowhere"), answer(f"the answer {CANARY}")
    )
    agent = Agent(model, tools=[FakeTool(probe), FakeTool(refuse, "refuse")])
    async with TracedHouse(sqlite_database, agent, RunSpans(collected.tracer)) as house:
        begun = RunStarted(f"goal {CANARY}", CANARY, ("probe", "refuse"), traceparent=PARENT)
        await house.executor.start(NewRun(KEY, owner="traced"), begun)
    run = collected.named("invoke_agent llm-agent-core")
    assert run.parent is not None
    assert f"{run.parent.span_id:016x}" == "b7ad6b7169203331"
    assert run.status.status_code is StatusCode.UNSET
    assert attributes(run) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "llm-agent-core",
        "gen_ai.provider.name": "llm-agent-core",
        "agent_core.run.id": "run-1",
        "agent_core.tenant": "acme",
        "agent_core.run.status": "success",
    }
    tool = collected.named("execute_tool probe")
    assert is_child(tool, run)
    assert attributes(tool)["gen_ai.tool.name"] == "probe"
    assert attributes(tool)["agent_core.step"] == 1
    inside = collected.named("inside")
    assert is_child(inside, tool)
    refused = collected.named("execute_tool refuse")
    assert attributes(refused)["error.type"] == "not_today"
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(collected.named("execute_tool nowhere"))["error.type"] == "unknown_tool"
    assert seen == [
        f"00-{TRACE}-{inside.context.span_id:016x}-01",
        f"00-{TRACE}-{refused.context.span_id:016x}-01",
    ]
    asked = [span for span in collected.spans if span.name.startswith("chat")]
    assert len(asked) == 3
    assert all(is_child(span, run) and span.kind is SpanKind.CLIENT for span in asked)
    assert {trace_id(span) for span in collected.spans} == {TRACE}
    assert all(span.instrumentation_scope.schema_url == SCHEMA_URL for span in collected.spans)
    assert CANARY not in "".join(span.to_json() for span in collected.spans)
    assert current_traceparent() is None


async def driven(collected: Collected, *events: Any, opening: RunStarted | None = None) -> list[str]:
    """Tell of a run in a task of its own, as the driver does; return which span was current after each event."""
    spans = RunSpans(collected.tracer)
    current: list[str | None] = []

    async def drive() -> None:
        spans.began(KEY, opening or RunStarted("go", None, ()))
        for event in events:
            spans.recorded(KEY, event)
            current.append(current_traceparent())
        spans.left(KEY)
        assert current_traceparent() is None

    await asyncio.create_task(drive())
    names = {f"{span.context.span_id:016x}": span.name for span in collected.spans}
    return [names[str(traceparent).split("-")[2]] for traceparent in current]


async def test_a_call_of_a_model_says_what_it_took(collected: Collected) -> None:
    await driven(
        collected,
        ModelRequested(1, "anthropic:claude-sonnet-5"),
        ModelFailed(1, "anthropic:claude-sonnet-5", "llm_rate_limited", CANARY, False),
        ModelRequested(1, "google:gemini-4"),
        ModelRejected(1, CANARY, Usage(5, 6), 1_000_000),
        ModelRequested(2, "openai-responses:gpt-6"),
        ModelDecided(2, CANARY, model="gpt-6-2026", usage=Usage(10, 20, 4), cost=2_000_000, finish_reason="stop"),
        RunFinished("success", CANARY),
        opening=RunStarted("go", None, (), model="openai:gpt-6"),
    )
    first, second, third, run = collected.spans
    assert (first.name, attributes(first)["error.type"]) == ("chat claude-sonnet-5", "llm_rate_limited")
    assert attributes(second)["gen_ai.provider.name"] == "gcp.gemini"
    assert attributes(second)["error.type"] == "model_response_invalid"
    assert attributes(third) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-6",
        "gen_ai.response.model": "gpt-6-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "agent_core.cost_usd": 0.002,
        "agent_core.turn": 2,
    }
    assert attributes(run)["gen_ai.usage.input_tokens"] == 15
    assert attributes(run)["gen_ai.usage.output_tokens"] == 26
    assert attributes(run)["agent_core.cost_usd"] == 0.003
    assert CANARY not in "".join(span.to_json() for span in collected.spans)


async def test_a_call_that_is_made_again_is_a_span_of_its_own(collected: Collected) -> None:
    step = Step(1, "pay", {}, {}, None, utc_now())
    await driven(
        collected,
        ToolIntended(1, "pay", {}),
        ToolInterrupted(1, "pay", 1, CANARY, in_doubt=False),
        ToolCompleted(step, 0.1, "call-7"),
        RunFinished("error", CANARY, "out_of_steps"),
    )
    first, second, run = collected.spans
    assert attributes(first)["error.type"] == "interrupted"
    assert attributes(second)["agent_core.attempt"] == 2
    assert attributes(second)["gen_ai.tool.call.id"] == "call-7"
    assert attributes(run)["agent_core.run.reason"] == "out_of_steps"
    assert run.status.status_code is StatusCode.ERROR


async def test_a_run_that_is_left_and_goes_on_elsewhere_stays_in_its_trace(collected: Collected) -> None:
    opening = RunStarted("go", None, (), traceparent=PARENT)
    assert await driven(collected, ToolIntended(1, "pay", {}), opening=opening) == ["execute_tool pay"]
    step = Step(1, "pay", {}, {}, None, utc_now())
    events = (ToolCompleted(step, 0.5), RunFinished("success", "done"))
    assert await driven(collected, *events, opening=opening) == ["invoke_agent llm-agent-core"] * 2
    cut_off, first, completed, second = collected.spans
    assert attributes(cut_off)["error.type"] == "interrupted"
    assert "agent_core.run.status" not in attributes(first)
    assert {trace_id(span) for span in collected.spans} == {TRACE}
    assert completed.start_time is not None
    assert completed.end_time is not None
    assert completed.end_time - completed.start_time >= 500_000_000
    assert is_child(completed, second)


async def test_what_is_told_of_a_run_that_is_not_driven_is_no_span(collected: Collected) -> None:
    spans = RunSpans(collected.tracer)
    spans.recorded(KEY, RunFinished("cancelled", "", "cancelled"))
    spans.left(KEY)
    assert collected.spans == []


@pytest.fixture
def client(collected: Collected) -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/things/{name}")
    async def thing(name: str) -> dict[str, Any]:
        return {"traceparent": current_traceparent(), **span_ids()}

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError(CANARY)

    @app.get("/api/v1/health")
    async def health() -> None: ...

    app.add_middleware(TracedRequests, tracer=collected.tracer)
    with TestClient(app, raise_server_exceptions=False) as connected:
        yield connected


def test_a_request_is_a_span_of_the_callers_trace_named_by_its_route(
    client: TestClient, collected: Collected
) -> None:
    said = client.get(f"/things/lamp?token={CANARY}", headers={"traceparent": PARENT, "User-Agent": "curl"}).json()
    (span,) = collected.spans
    assert said["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert (said["trace_id"], said["span_id"]) == (TRACE, f"{span.context.span_id:016x}")
    assert (span.name, span.kind) == ("GET /things/{name}", SpanKind.SERVER)
    assert span.parent is not None
    assert span.parent.is_remote
    found = attributes(span)
    assert found.pop("server.port") in {80, 8000}
    assert found == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/things/{name}",
        "network.protocol.version": "1.1",
        "server.address": "testserver",
        "url.path": "/things/lamp",
        "url.scheme": "http",
        "user_agent.original": "curl",
    }


def test_requests_that_fail_or_lead_nowhere_are_told_apart(client: TestClient, collected: Collected) -> None:
    client.get("/broken")
    client.get(f"/{CANARY}")
    client.request("BREW", "/things/tea")
    client.get("/api/v1/health")
    broken, nowhere, brewed = collected.spans
    assert broken.status.status_code is StatusCode.ERROR
    assert attributes(broken)["error.type"] == "RuntimeError"
    assert CANARY not in broken.to_json()
    assert nowhere.name == "GET"
    assert nowhere.status.status_code is StatusCode.UNSET
    assert brewed.name.startswith("HTTP")
    assert attributes(brewed)["http.request.method"] == "_OTHER"


@pytest.mark.parametrize(
    "hostile", ["x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-zz", "\xff" * 60, PARENT * 9]
)
def test_a_broken_traceparent_begins_a_new_trace(client: TestClient, collected: Collected, hostile: str) -> None:
    assert client.get("/things/lamp", headers={"traceparent": hostile.encode("latin-1")}).status_code == 200
    assert collected.spans[0].parent is None


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self, delay_s: float = 0.0) -> None:
        received: list[tuple[str, str, bytes]] = []
        leave = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, self.headers["Content-Type"], body))
                leave.wait(delay_s)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.received = received
        self._leave = leave
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._leave.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    opened = Collector()
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", opened.url)
    yield opened
    opened.close()


async def test_spans_are_sent_by_otlp_before_the_process_ends(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    tracing = open_tracing(os.environ)
    assert tracing is not None
    tracing.tracer.start_span("invoke_agent llm-agent-core").end()
    await tracing.stop()
    ((path, kind, body),) = collector.received
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    for told in (b"invoke_agent llm-agent-core", b"llm-agent-core", b"lab", SCHEMA_URL.encode()):
        assert told in body


async def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Collector(delay_s=30)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hanging.url)
    tracing = open_tracing(os.environ)
    assert tracing is not None
    tracing.tracer.start_span("last").end()
    began = time.monotonic()
    await tracing.stop(0.2)
    assert time.monotonic() - began < 2
    hanging.close()


async def test_what_goes_out_to_a_provider_carries_the_trace(collected: Collected) -> None:
    import httpx2

    from app.llm.providers.access import Access, Timeouts
    from app.llm.providers.http import open_http

    http = open_http(Timeouts(1.0, 1.0, 1.0), Access("https://provider.example", "key"))
    trim = http.event_hooks["request"][-1]
    untraced, traced = (httpx2.Request("POST", "https://provider.example/v1") for _ in range(2))
    await trim(untraced)
    with collected.tracer.start_as_current_span("chat"):
        await trim(traced)
    await http.aclose()
    assert "traceparent" not in untraced.headers
    assert traced.headers["traceparent"].split("-")[1] == trace_id(collected.spans[0])
