"""The loop of one run: plan, act, observe, as a generator of recorded events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from time import monotonic

from msgspec import Struct

from ..errors import ModelFailedError, ModelResponseError, StepError, ToolRejected
from ..jsonvalue import JsonObject
from ..llm.interface import AssistantMessage, CorrectionMessage, ToolCall
from ..timelimit import TimeLimitError
from ..tools.base import Effect, PreparedTool
from .events import (
    Event,
    ModelDecided,
    ModelRejected,
    ModelRequested,
    RunFinished,
    Step,
    ToolCompleted,
    ToolIntended,
)
from .journal import Journal
from .planner import MAX_CORRECTIONS, Planner
from .state import AgentState
from .toolbox import Toolbox, call_tool

RERUNNABLE = frozenset({Effect.PURE, Effect.READ})
"""Effects that need no barrier: running such a tool twice does no harm (DESIGN section 5, output commit)."""


class Limits(Struct, frozen=True):
    """What a run may use: tool calls, and seconds of wall time from the start of the loop."""

    max_steps: int = 20
    max_seconds: float = 300.0


class Loop:
    """One run on its way. It starts from a state, so that resuming is the same as starting."""

    __slots__ = ("_clock", "_deadline", "_journal", "_limits", "_planner", "_state", "_toolbox")

    def __init__(
        self,
        state: AgentState,
        journal: Journal,
        planner: Planner,
        toolbox: Toolbox,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._journal = journal
        self._planner = planner
        self._toolbox = toolbox
        self._limits = limits
        self._clock = clock
        self._deadline = monotonic() + limits.max_seconds

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield each event as recorded, up to and including `RunFinished`."""
        state = self._state
        while state.result is None:
            seconds = self._deadline - monotonic()
            end = self._end(seconds)
            if end is not None:
                yield await self._finish(end)
            elif not state.pending:
                yield self._record(ModelRequested(state.turns + 1))
                move = await self._decide(seconds)
                yield await self._finish(move) if isinstance(move, RunFinished) else self._record(move)
            else:
                call = state.pending[0]
                tool = self._select(call)
                if isinstance(tool, StepError):
                    yield self._record(self._completed(call, None, tool))
                else:
                    yield self._record(ToolIntended(len(state.steps) + 1, call.name, call.arguments))
                    yield self._record(await self._perform(tool, call, seconds))

    def _end(self, seconds: float) -> RunFinished | None:
        """Return how the run ends now, or None if it goes on; a resumed run that has its answer asks no more."""
        state = self._state
        if seconds <= 0:
            return _out_of_time(self._limits)
        if state.pending:
            return _out_of_steps(self._limits) if len(state.steps) >= self._limits.max_steps else None
        last = state.messages[-1]
        if isinstance(last, AssistantMessage):
            if last.declined:
                return RunFinished("error", last.content, "declined")
            return RunFinished("success", last.content)
        if isinstance(last, CorrectionMessage) and state.corrections > MAX_CORRECTIONS:
            return _out_of_corrections(state.corrections, last.problem)
        return None

    def _record(self, event: Event) -> Event:
        recorded = self._journal.append(event)
        self._state.apply(recorded)
        return recorded

    async def _finish(self, end: RunFinished) -> Event:
        recorded = self._record(end)
        await self._journal.commit()
        return recorded

    async def _decide(self, seconds: float) -> ModelDecided | ModelRejected | RunFinished:
        try:
            return await self._planner.next_move(self._state, seconds)
        except TimeLimitError:
            return _out_of_time(self._limits)
        except ModelFailedError as error:
            return RunFinished("error", f"The language model failed. {error}", error.code)

    def _select(self, call: ToolCall) -> PreparedTool | StepError:
        try:
            return self._toolbox.select(call.name, call.arguments)
        except StepError as error:
            return error

    async def _perform(self, tool: PreparedTool, call: ToolCall, seconds: float) -> ToolCompleted:
        if tool.effect not in RERUNNABLE:
            await self._journal.commit()
        started = monotonic()
        try:
            output = await call_tool(tool, call.arguments, min(seconds, tool.timeout_s))
        except StepError as error:
            unknown = tool.effect not in RERUNNABLE and not isinstance(error, ToolRejected)
            return self._completed(call, None, error, monotonic() - started, effect_unknown=unknown)
        return self._completed(call, output, None, monotonic() - started)

    def _completed(
        self,
        call: ToolCall,
        output: JsonObject | None,
        error: StepError | None,
        duration_s: float = 0.0,
        *,
        effect_unknown: bool = False,
    ) -> ToolCompleted:
        text = None if error is None else error.as_text()
        step = Step(len(self._state.steps) + 1, call.name, call.arguments, output, text, self._clock())
        return ToolCompleted(step, duration_s, call.id, effect_unknown)


def _out_of_corrections(times: int, problem: str) -> RunFinished:
    output = f"The language model gave no usable reply {times} times in a row. {problem}"
    return RunFinished("error", output, ModelResponseError.code)


def _out_of_steps(limits: Limits) -> RunFinished:
    return RunFinished(
        "error",
        f"Stopped without an answer after {limits.max_steps} steps, the limit of this run (max_steps).",
        "step_limit",
    )


def _out_of_time(limits: Limits) -> RunFinished:
    return RunFinished(
        "error",
        f"Stopped without an answer after {limits.max_seconds:g} seconds, the limit of this run (max_seconds).",
        "time_limit",
    )
