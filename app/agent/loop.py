"""The loop of one run: plan, act, observe, as a generator of recorded events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from secrets import token_hex
from time import monotonic

from ..errors import (
    LLMError,
    ModelFailedError,
    StepError,
    ToolFailedError,
    ToolRejected,
    ToolTimeoutError,
)
from ..jsonvalue import JsonObject
from ..llm.interface import AssistantMessage, CorrectionMessage, ToolCall
from ..timelimit import TimeLimitError
from ..tools.base import Effect, PreparedTool, Transaction
from ..tools.call import DEFAULT_TENANT, ToolCallContext, in_call
from .ahead import Ahead
from .asking import MAX_CORRECTIONS, Asking, Pause
from .attempts import INTERRUPTED
from .endings import Limits, in_doubt, model_failed, out_of_corrections, out_of_steps, out_of_time
from .events import (
    Event,
    ModelFailed,
    ModelRequested,
    RunFinished,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
)
from .journal import Journal
from .state import AgentState
from .toolbox import Toolbox, call_tool, call_tool_in

MAX_ATTEMPTS = 3
"""How often a call that honours an idempotency key is made before its step is in doubt."""


class Loop:
    """One run on its way. It starts from a state, so that resuming is the same as starting.

    Args:
        run_id: what the keys of its calls begin with; None makes one up.
        tenant: whose run it is; tools are told.
        waits: whether somebody can be waited for who says what became of a step in doubt. If not, a call that was
            broken off is a failed step of unknown effect, and a resumed run that meant to make one ends.
        line_up: the models to ask, the first of them first; if asking costs something, or gives another answer the
            second time, then that it is asked, and what it decided, is durable before anything follows from it.
    """

    __slots__ = (
        "_ahead",
        "_append",
        "_apply",
        "_asked",
        "_asking",
        "_clock",
        "_deadline",
        "_is_asking",
        "_journal",
        "_limits",
        "_max_steps",
        "_meant",
        "_perform_in",
        "_planner",
        "_run_id",
        "_state",
        "_tenant",
        "_toolbox",
        "_waits",
    )

    def __init__(
        self,
        state: AgentState,
        journal: Journal,
        asking: Asking,
        toolbox: Toolbox,
        limits: Limits,
        clock: Callable[[], datetime],
        *,
        run_id: str | None = None,
        waits: bool = False,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self._state = state
        self._journal = journal
        self._append = journal.append
        self._apply = state.apply
        self._asking = asking
        self._toolbox = toolbox
        self._limits = limits
        self._max_steps = state.opening.max_steps or limits.max_steps
        self._clock = clock
        self._run_id = run_id
        self._waits = waits
        self._tenant = tenant
        # only a journal in a database has it: the tool then writes in the transaction that records its step
        self._perform_in = getattr(journal, "perform", None)
        self._meant: ToolIntended | None = None
        self._asked: ModelRequested | None = None
        self._is_asking = False
        self._ahead: Ahead | None = None
        self._deadline = monotonic() + limits.max_seconds

    @property
    def is_waiting(self) -> bool:
        """Whether nothing follows until somebody has said what became of a step."""
        doubt = self._state.doubt
        return doubt is not None and self._state.result is None and self._policy(doubt.tool) == "wait"

    def leaves_open(self, *, for_good: bool) -> bool:
        """Say whether, if the run stopped here, nobody would know if the call it is in had its effect.

        `for_good`: it will not go on either, and so not make that call again under the same key.
        """
        state = self._state
        intended = state.intended
        if intended is None or state.doubt is not None or state.resolved is not None:
            return False
        tool = self._toolbox.tools.get(intended.tool)
        may_be_half_done = for_good and tool is not None and tool.effect is Effect.KEYED
        return may_be_half_done or not self._may_rerun(intended)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield each event as recorded, up to and including `RunFinished`."""
        try:
            while self._state.result is None:
                event = await self.next_event()
                await self._journal.commit()  # nothing is shown before it is durable
                yield event
        finally:
            self.close()

    def close(self) -> None:
        """Break off calls that were begun before their turn, and that nobody will ask for any more."""
        if self._ahead is not None:
            self._ahead.cancel()

    async def next_event(self) -> Event:
        """Bring about, record and return the one event that follows from the state.

        What comes next depends on nothing else, and so a resumed run asks again where it had asked, has an answer
        that it was given, and makes a call that it had meant to make, if making it twice does no harm: whether any
        other had its effect before the run stopped, nobody here can tell.
        """
        state = self._state
        seconds = self._deadline - monotonic()
        if state.intended is not None:
            return await self._go_on_with(state.intended, seconds)
        if seconds <= 0:
            return await self._finish(out_of_time(self._limits))
        if state.asked is not None:
            if state.asked.model is not None and state.asked is not self._asked:
                return self._record(self._broken_off("The process stopped while the model was being asked."))
            return await self._decide(seconds)
        if state.pending:
            if len(state.steps) >= self._max_steps:
                return await self._finish(out_of_steps(self._max_steps))
            recorded = self._record(self._intend(state.pending[0]))
            self._meant = state.intended
            return recorded
        end = self._answer()
        if end is not None:
            return await self._finish(end)
        if self._asking.is_plain and not state.failures:
            return self._record(ModelRequested(state.turns + 1))
        return await self._ask(seconds)

    async def _go_on_with(self, intended: ToolIntended, seconds: float) -> Event:
        """Make a call that was intended, now or before the run stopped, or say what became of it."""
        state = self._state
        call = state.pending[0]
        if state.resolved is not None:
            return self._record(self._completed(call, state.resolved.output or {}, None))
        if state.doubt is not None:
            return await self._finish(in_doubt(intended))
        has_begun = intended is not self._meant or state.attempts > 0
        if has_begun and not self._may_rerun(intended, seconds):
            if not self._waits:
                return await self._finish(in_doubt(intended))
            return self._record(self._left_behind(intended))
        if seconds <= 0:
            return await self._finish(out_of_time(self._limits))
        return await self._perform(call, seconds)

    def _left_behind(self, intended: ToolIntended) -> ToolInterrupted:
        """Return the event of a call that somebody began, and that cannot be made again."""
        attempt = self._state.attempts
        if intended is not self._meant:
            attempt += 1  # the one that was under way then
            reason = f"The run had stopped while {intended.tool} was under way."
        else:
            reason = f"There was no time left to try {intended.tool} again."
        return ToolInterrupted(intended.step, intended.tool, attempt, reason, in_doubt=True)

    async def _ask(self, seconds: float) -> Event:
        """Record that a model is about to be asked, or why none is."""
        proposed = self._asking.next_request(self._state, seconds)
        if isinstance(proposed, RunFinished):
            return await self._finish(proposed)
        if isinstance(proposed, Pause):
            if proposed.seconds >= seconds:
                return await self._finish(proposed.instead)
            await asyncio.sleep(proposed.seconds)
            proposed = proposed.then
        recorded = self._record(proposed)
        self._asked, self._is_asking = self._state.asked, False
        return recorded

    def broken_off(self, reason: str) -> ModelFailed | None:
        """Return the event of a call of a model that is under way, if the run is to stop here; None if none is."""
        asked = self._state.asked
        return None if asked is None or asked.model is None else self._broken_off(reason)

    def _broken_off(self, reason: str) -> ModelFailed:
        asked = self._state.asked
        assert asked is not None
        # one that was about to be made here, and was not, has cost nothing
        may_be_paid = asked is not self._asked or self._is_asking
        return ModelFailed(asked.turn, asked.model, INTERRUPTED, reason, may_be_paid)

    async def _decide(self, seconds: float) -> Event:
        is_paid = self._asking.is_paid
        try:
            if is_paid:
                await self._journal.commit()
            self._is_asking = True
            recorded = self._record(await self._asking.decide(self._state, seconds))
            if is_paid:
                await self._journal.commit()
            return recorded
        except TimeLimitError:
            broken_off = self.broken_off("The run's time was up while the model was being asked.")
            if broken_off is not None:
                self._record(broken_off)
            return await self._finish(out_of_time(self._limits))
        except LLMError as error:
            return self._record(self._asking.failed(self._state, error))
        except ModelFailedError as error:
            asked = self._state.asked
            if asked is not None and asked.reserved is not None:  # it stays spent, and the journal has to say so
                return self._record(self._asking.failed(self._state, error))
            return await self._finish(model_failed(error.code, str(error)))

    def _answer(self) -> RunFinished | None:
        """Return how the run ends if the model has had its last word, or None if it is to be asked again."""
        last = self._state.messages[-1]
        if isinstance(last, AssistantMessage):
            if last.declined:
                return RunFinished("error", last.content, "declined")
            if self._state.cut_off:
                return self._asking.cut_off(self._state.cut_off, last.content)
            return self._asking.overspent(self._state, last.content) or RunFinished("success", last.content)
        if isinstance(last, CorrectionMessage) and self._state.corrections > MAX_CORRECTIONS:
            return out_of_corrections(self._state.corrections, last.problem)
        return None

    def _record(self, event: Event) -> Event:
        recorded = self._append(event)
        self._apply(recorded)
        return recorded

    async def _finish(self, end: RunFinished) -> Event:
        recorded = self._record(end)
        await self._journal.commit()
        return recorded

    def _may_rerun(self, intended: ToolIntended, seconds: float = 1.0) -> bool:
        """Say whether making a call that may have had its effect once more does no harm."""
        tool = self._toolbox.tools.get(intended.tool)
        if tool is None:  # since the run stopped, and with it the knowledge of what it does
            return False
        if tool.effect is Effect.KEYED:
            return seconds > 0  # one that is broken off at once would settle nothing
        return tool.is_rerunnable or self._is_transactional(tool)

    def _is_transactional(self, tool: PreparedTool) -> bool:
        return tool.run_in is not None and self._perform_in is not None

    def _policy(self, name: str) -> str:
        tool = self._toolbox.tools.get(name)
        return "wait" if tool is None else tool.on_in_doubt

    def _intend(self, call: ToolCall) -> ToolIntended | ToolCompleted:
        """Return the intent to make a call, or at once its failure if it may not be made."""
        try:
            self._toolbox.check(call.name, call.arguments)
        except StepError as error:
            return self._completed(call, None, error)
        return ToolIntended(len(self._state.steps) + 1, call.name, call.arguments)

    async def _perform(self, call: ToolCall, seconds: float) -> Event:
        started = monotonic()
        tool: PreparedTool | None = None
        try:
            tool = self._toolbox.get(call.name)
            if self._is_transactional(tool):
                return await self._transact(tool, call, started)
            if not tool.is_rerunnable:
                await self._journal.commit()  # its intent has to be durable before it can have an effect
                seconds = self._deadline - monotonic()
                if seconds <= 0:
                    return await self._finish(out_of_time(self._limits))
            output = await self._call(tool, call, seconds)
        except StepError as error:
            unknown = tool is not None and not tool.is_rerunnable and not isinstance(error, ToolRejected)
            interrupted = self._interrupted(tool, error) if tool is not None and unknown else None
            if interrupted is not None:
                return self._record(interrupted)
            return self._record(self._completed(call, None, error, monotonic() - started, effect_unknown=unknown))
        return self._record(self._completed(call, output, None, monotonic() - started))

    async def _call(self, tool: PreparedTool, call: ToolCall, seconds: float) -> JsonObject:
        """Call a tool, or wait for the call of it that is under way; begin those that may go on beside it."""
        if tool.is_rerunnable and not tool.quick:
            ahead = self._ahead
            begun = None if ahead is None else ahead.take(len(self._state.steps) + 1)
            if begun is None and len(self._state.pending) > 1:
                ahead = self._ahead = ahead or Ahead(self._toolbox)
                begun = ahead.begin(self._state.pending, self._context(), seconds, self._max_steps)
            if begun is not None:
                return await begun
        with in_call(self._context()):
            return await call_tool(tool, call.arguments, min(seconds, tool.timeout_s))

    async def _transact(self, tool: PreparedTool, call: ToolCall, started: float) -> Event:
        """Let the journal carry the tool out where it records the step: neither is there without the other."""
        context = self._context()

        def effect(transaction: Transaction) -> JsonObject:
            with in_call(context):
                return call_tool_in(tool, transaction, call.arguments)

        def completed(output: JsonObject | None, error: StepError | None) -> ToolCompleted:
            return self._completed(call, output, error, monotonic() - started)

        assert self._perform_in is not None
        recorded: ToolCompleted = await self._perform_in(context.step, effect, completed)
        self._apply(recorded)
        return recorded

    def _context(self) -> ToolCallContext:
        if self._run_id is None:
            self._run_id = token_hex(16)
        return ToolCallContext(self._run_id, len(self._state.steps) + 1, self._state.attempts + 1, self._tenant)

    def _interrupted(self, tool: PreparedTool, error: StepError) -> ToolInterrupted | None:
        """Return the event of a call that was broken off; None if it ended, or nobody can be waited for."""
        if not isinstance(error, ToolTimeoutError) and not (
            isinstance(error, ToolFailedError) and error.broken_off
        ):
            return None
        attempt = self._state.attempts + 1
        again = tool.effect is Effect.KEYED and attempt < MAX_ATTEMPTS and monotonic() < self._deadline
        if not again and not self._waits:
            return None
        return ToolInterrupted(len(self._state.steps) + 1, tool.name, attempt, error.as_text(), in_doubt=not again)

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
