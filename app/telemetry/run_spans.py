"""Spans of runs, of their calls of models and of tools, by the GenAI semantic conventions, made from their events.

The conventions are those of Semantic Conventions 1.41.1 (`tracing.SCHEMA_URL`): the last release that holds them,
since they were moved to a repository of their own that has had none yet. What is said in a run, by whomever, is in
none of its spans.
"""

from __future__ import annotations

from collections.abc import Collection
from time import time_ns
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
    RunStarted,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
)
from ..llm.interface import Usage
from ..runs.models import RunKey

AGENT: Final = "llm-agent-core"

PROVIDERS: Final = {"google": "gcp.gemini", "openai-responses": "openai"}
"""What the conventions call a provider whose models have another prefix here."""

_w3c: Final = TraceContextTextMapPropagator()


class _RunSpan:
    """The span of one run, and of the call that it is in."""

    __slots__ = ("call", "cost", "here", "input_tokens", "output_tokens", "span", "token")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.here: Context = trace.set_span_in_context(span, Context())
        self.token = context.attach(self.here)
        self.call: Span | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost = 0


class RunSpans:
    """A `RunObserver` that makes the spans.

    A run's is a part of the trace that its first event names, in whatever process the run goes on; and it, or that
    of the call which it is in, is the current span of its task.
    """

    watched: Collection[type[Event]] = (
        ModelRequested,
        ModelDecided,
        ModelRejected,
        ModelFailed,
        ToolIntended,
        ToolInterrupted,
        ToolCompleted,
        RunFinished,
    )

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._runs: dict[RunKey, _RunSpan] = {}

    def began(self, key: RunKey, opening: RunStarted) -> None:
        sent = {} if opening.traceparent is None else {"traceparent": opening.traceparent}
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": AGENT,
            "gen_ai.provider.name": AGENT,
            "agent_core.run.id": key.run_id,
            "agent_core.tenant": key.tenant,
        }
        if opening.model is not None:
            attributes["gen_ai.request.model"] = opening.model
        parent = _w3c.extract(sent, Context())
        self._runs[key] = _RunSpan(
            self._tracer.start_span(f"invoke_agent {AGENT}", parent, SpanKind.INTERNAL, attributes)
        )

    def recorded(self, key: RunKey, event: Event) -> None:
        run = self._runs.get(key)
        if run is None:  # it is only resolved or ended, and not driven
            return
        if isinstance(event, ModelRequested):
            self._ask(run, event)
        elif isinstance(event, ModelDecided):
            _decided(run, event)
        elif isinstance(event, ModelRejected):
            _used(run, event.usage, event.cost)
            _end_call(run, "model_response_invalid")
        elif isinstance(event, ModelFailed):
            _end_call(run, event.code)
        elif isinstance(event, ToolIntended):
            self._call(run, event.tool, event.step)
        elif isinstance(event, ToolInterrupted):
            self._interrupted(run, event)
        elif isinstance(event, ToolCompleted):
            self._completed(run, event)
        elif isinstance(event, RunFinished):
            _finished(run, event)

    def left(self, key: RunKey) -> None:
        run = self._runs.pop(key, None)
        if run is not None:
            _end_call(run, "interrupted")
            run.span.end()
            context.detach(run.token)

    def _ask(self, run: _RunSpan, event: ModelRequested) -> None:
        attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "agent_core.turn": event.turn}
        attributes["gen_ai.provider.name"] = AGENT
        if event.model is not None:
            prefix, _, name = event.model.partition(":")
            attributes["gen_ai.provider.name"] = PROVIDERS.get(prefix, prefix)
            attributes["gen_ai.request.model"] = name or prefix
        model = attributes.get("gen_ai.request.model")
        self._enter(
            run, self._start(run, "chat" if model is None else f"chat {model}", SpanKind.CLIENT, attributes)
        )

    def _call(self, run: _RunSpan, tool: str, step: int, attempt: int = 1) -> None:
        span = self._start(run, f"execute_tool {tool}", SpanKind.INTERNAL, _of_tool(tool, step))
        if attempt > 1:
            span.set_attribute("agent_core.attempt", attempt)
        self._enter(run, span)

    def _interrupted(self, run: _RunSpan, event: ToolInterrupted) -> None:
        _end_call(run, "in_doubt" if event.in_doubt else "interrupted")
        if not event.in_doubt:  # it is made again, which no event of its own says
            self._call(run, event.tool, event.step, event.attempt + 1)

    def _completed(self, run: _RunSpan, event: ToolCompleted) -> None:
        step = event.step
        if run.call is None:  # it was refused, or intended before the run came here
            started = time_ns() - int(event.duration_s * 1e9)
            run.call = self._start(
                run, f"execute_tool {step.tool}", SpanKind.INTERNAL, _of_tool(step.tool, step.step), started
            )
        if event.call_id:
            run.call.set_attribute("gen_ai.tool.call.id", event.call_id)
        if event.effect_unknown:
            run.call.set_attribute("agent_core.effect_unknown", True)
        _end_call(run, None if step.error is None else step.error.partition(":")[0])

    def _start(
        self, run: _RunSpan, name: str, kind: SpanKind, attributes: dict[str, Any], started: int | None = None
    ) -> Span:
        return self._tracer.start_span(name, run.here, kind, attributes, start_time=started)

    def _enter(self, run: _RunSpan, span: Span) -> None:
        """Make a call's span the current one of the run's task."""
        run.call = span
        context.attach(trace.set_span_in_context(span, run.here))


def _of_tool(tool: str, step: int) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.tool.type": "function",
        "agent_core.step": step,
    }


def _end_call(run: _RunSpan, problem: str | None = None) -> None:
    """End the span of the call that the run is in, if it is in one; `problem` is the code of what went wrong."""
    if run.call is None:
        return
    _fail(run.call, problem)
    run.call.end()
    run.call = None
    context.attach(run.here)


def _fail(span: Span, problem: str | None) -> None:
    if problem is not None:
        span.set_attribute("error.type", problem)
        span.set_status(StatusCode.ERROR)


def _decided(run: _RunSpan, event: ModelDecided) -> None:
    _used(run, event.usage, event.cost)
    if run.call is not None:
        if event.model is not None:
            run.call.set_attribute("gen_ai.response.model", event.model)
        if event.finish_reason is not None:
            run.call.set_attribute("gen_ai.response.finish_reasons", (event.finish_reason,))
    _end_call(run)


def _used(run: _RunSpan, usage: Usage | None, cost: int | None) -> None:
    if usage is not None:
        run.input_tokens += usage.input_tokens
        run.output_tokens += usage.output_tokens
        if run.call is not None:
            run.call.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
            run.call.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
            if usage.cache_read_tokens:
                run.call.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens)
    if cost is not None:
        run.cost += cost
        if run.call is not None:
            run.call.set_attribute("agent_core.cost_usd", cost / 1e9)


def _finished(run: _RunSpan, event: RunFinished) -> None:
    _end_call(run, event.reason or ("interrupted" if run.call is not None else None))
    run.span.set_attribute("agent_core.run.status", event.status)
    if event.reason is not None:
        run.span.set_attribute("agent_core.run.reason", event.reason)
    if event.status == "error":
        _fail(run.span, event.reason or "error")
    if run.input_tokens or run.output_tokens:
        run.span.set_attribute("gen_ai.usage.input_tokens", run.input_tokens)
        run.span.set_attribute("gen_ai.usage.output_tokens", run.output_tokens)
    if run.cost:
        run.span.set_attribute("agent_core.cost_usd", run.cost / 1e9)
