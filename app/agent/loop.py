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
from .events import (
    Event,
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


class Limits(Struct, frozen=True):
    """What a run may use: tool calls, and seconds of wall time from the start of the loop."""

    max_steps: int = 20
    max_seconds: float = 300.0


class Loop:
    """One run on its way. It starts from a state, so that resuming is the same as starting."""

    __slots__ = (
        "_append",
        "_apply",
        "_clock",
        "_deadline",
        "_journal",
        "_limits",
        "_meant",
        "_planner",
        "_state",
        "_toolbox",
    )

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
        self._append = journal.append
        self._apply = state.apply
        self._planner = planner
        self._toolbox = toolbox
        self._limits = limits
        self._clock = clock
        self._meant: ToolIntended | None = None
        self._deadline = monotonic() + limits.max_seconds

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield each event as recorded, up to and including `RunFinished`."""
        while self._state.result is None:
            event = await self.next_event()
            await self._journal.commit()  # nothing is shown before it is durable
            yield event

    async def next_event(self) -> Event:
        """Bring about, record and return the one event that follows from the state.

        What comes next depends on nothing else, and so a resumed run asks again where it had asked, has an answer
        that it was given, and runs what it had meant to run, if running it twice does no harm: whether anything
        else had its effect before the run stopped, nobody here can tell.
        """
        state = self._state
        seconds = self._deadline - monotonic()
        if state.intended is not None:
            if state.intended is not self._meant and not self._may_rerun(state.intended):
                return await self._finish(_in_doubt(state.intended))
            return self._record(await self._perform(state.pending[0], seconds))
        if seconds <= 0:
            return await self._finish(_out_of_time(self._limits))
        if state.asked:
            return await self._decide(seconds)
        if state.pending:
            if len(state.steps) >= self._limits.max_steps:
                return await self._finish(_out_of_steps(self._limits))
            recorded = self._record(self._intend(state.pending[0]))
            self._meant = state.intended
            return recorded
        end = self._answer()
        return self._record(ModelRequested(state.turns + 1)) if end is None else await self._finish(end)

    async def _decide(self, seconds: float) -> Event:
        try:
            return self._record(await self._planner.next_move(self._state, seconds))
        except TimeLimitError:
            return await self._finish(_out_of_time(self._limits))
        except ModelFailedError as error:
            return await self._finish(RunFinished("error", f"The language model failed. {error}", error.code))

    def _answer(self) -> RunFinished | None:
        """Return how the run ends if the model has had its last word, or None if it is to be asked again."""
        last = self._state.messages[-1]
        if isinstance(last, AssistantMessage):
            if last.declined:
                return RunFinished("error", last.content, "declined")
            return RunFinished("success", last.content)
        if isinstance(last, CorrectionMessage) and self._state.corrections > MAX_CORRECTIONS:
            return _out_of_corrections(self._state.corrections, last.problem)
        return None

    def _record(self, event: Event) -> Event:
        recorded = self._append(event)
        self._apply(recorded)
        return recorded

    async def _finish(self, end: RunFinished) -> Event:
        recorded = self._record(end)
        await self._journal.commit()
        return recorded

    def _may_rerun(self, intended: ToolIntended) -> bool:
        tool = self._toolbox.tools.get(intended.tool)
        return tool is None or tool.is_rerunnable

    def _intend(self, call: ToolCall) -> ToolIntended | ToolCompleted:
        """Return the intent to make a call, or at once its failure if it may not be made."""
        try:
            self._toolbox.check(call.name, call.arguments)
        except StepError as error:
            return self._completed(call, None, error)
        return ToolIntended(len(self._state.steps) + 1, call.name, call.arguments)

    async def _perform(self, call: ToolCall, seconds: float) -> ToolCompleted:
        started = monotonic()
        rerunnable = False
        try:
            tool = self._toolbox.get(call.name)  # which may have gone since a resumed run intended the call
            rerunnable = tool.is_rerunnable
            if not rerunnable:
                await self._journal.commit()  # its intent has to be durable before it can have an effect
            output = await call_tool(tool, call.arguments, min(seconds, tool.timeout_s))
        except StepError as error:
            unknown = not rerunnable and not isinstance(error, ToolRejected)
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


def _in_doubt(intended: ToolIntended) -> RunFinished:
    return RunFinished(
        "error",
        f"The run had stopped while {intended.tool} was under way in step {intended.step}. Whether that had its "
        "effect is unknown, so it was not repeated.",
        "in_doubt",
    )


def _out_of_corrections(times: int, problem: str) -> RunFinished:
    reason = problem.partition("\n")[0]  # what follows tells the model how to answer
    output = f"The language model gave no usable reply {times} times in a row. {reason}"
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
