"""The state of a run: the fold of its events, and nothing else. No `await` in this file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..llm.interface import (
    AssistantMessage,
    CorrectionMessage,
    Message,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from .context import UNKNOWN_SIZE, KnownSize, digested
from .events import (
    ContextCompacted,
    Event,
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
    ToolResolved,
)
from .spending import Spending

_NOTHING_YET: Final = RunStarted("", None, ())


class AgentState:
    """Where a run stands. `apply` is the only way to change it, appends only, and costs the same at any length.

    Resuming is reading: `AgentState.fold(events)` is the state, and the loop goes on from it.
    """

    __slots__ = (
        "answering",
        "asked",
        "attempts",
        "compacted",
        "corrections",
        "cut_off",
        "doubt",
        "failures",
        "intended",
        "known_size",
        "messages",
        "opening",
        "pending",
        "resolved",
        "result",
        "spending",
        "steps",
        "turns",
    )

    def __init__(self) -> None:
        self.opening = _NOTHING_YET
        self.messages: list[Message] = []
        self.steps: list[Step] = []
        self.pending: deque[ToolCall] = deque()
        self.intended: ToolIntended | None = None
        self.attempts = 0
        self.doubt: ToolInterrupted | None = None
        self.resolved: ToolResolved | None = None
        self.asked: ModelRequested | None = None
        self.answering: str | None = None
        self.failures: list[ModelFailed] = []
        self.turns = 0
        self.corrections = 0
        self.cut_off = 0  # how many tokens the run could have taken with an answer that was cut off
        self.compacted = 0
        self.known_size = UNKNOWN_SIZE
        self.spending = Spending()
        self.result: RunFinished | None = None

    @classmethod
    def fold(cls, events: Iterable[Event]) -> AgentState:
        """Return the state that `events` lead to."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Take one recorded event into the state."""
        _APPLY[type(event)](self, event)

    def _started(self, event: RunStarted) -> None:
        self.opening = event
        self.messages.append(UserMessage(event.goal, event.context))

    def _requested(self, event: ModelRequested) -> None:
        self.turns = event.turn
        self.asked = event

    def _failed(self, event: ModelFailed) -> None:
        self.spending.give_up(self.asked, may_be_paid=event.may_be_paid)
        self.asked = None
        self.failures.append(event)

    def _decided(self, event: ModelDecided) -> None:
        self.cut_off = self._most_tokens() if event.finish_reason == "length" else 0
        self._answered(event.usage, event.cost)
        self.corrections = 0
        self.pending.extend(event.tool_calls)
        self.messages.append(AssistantMessage(event.content, event.tool_calls, event.declined))

    def _most_tokens(self) -> int:
        """Return how many tokens the run takes at most with the call that it is in."""
        reserved = None if self.asked is None else self.asked.reserved
        return self.spending.tokens + (0 if reserved is None else reserved.tokens)

    def _answered(self, usage: Usage | None, cost: int | None) -> None:
        """Take note that the model has answered; which one did is asked next time too."""
        asked = self.asked
        self.asked = None
        if asked is None or (asked.model is None and usage is None and not self.failures):
            return  # a model of which nothing is known, as the offline planner: nothing follows
        if asked.model is not None:
            self.answering = asked.model
        if usage is not None or asked.reserved is not None:
            self.spending.settle(asked, usage, cost)
        if usage is not None and usage.input_tokens:
            self.known_size = KnownSize(asked.model, len(self.messages), usage.input_tokens)
        self.failures = []

    def _rejected(self, event: ModelRejected) -> None:
        self._answered(event.usage, event.cost)
        self.corrections += 1
        self.messages.append(CorrectionMessage(event.problem))

    def _compacted(self, event: ContextCompacted) -> None:
        """Show the model the digests of those steps' results from now on."""
        numbers = set(event.steps)
        step = 0
        for at, message in enumerate(self.messages):
            if isinstance(message, ToolMessage):
                step += 1
                if step in numbers:
                    self.messages[at] = digested(message)
        self.compacted += len(numbers)
        self.known_size = UNKNOWN_SIZE
        self.failures = []  # what failed was another request

    def _intended(self, event: ToolIntended) -> None:
        self.intended = event
        self.attempts = 0

    def _interrupted(self, event: ToolInterrupted) -> None:
        self.attempts = event.attempt
        self.doubt = event if event.in_doubt else None

    def _resolved(self, event: ToolResolved) -> None:
        self.doubt = None
        if event.happened:
            self.resolved = event
        else:
            self.intended = None  # and so the call is still to be made

    def _completed(self, event: ToolCompleted) -> None:
        step = event.step
        self.intended = self.resolved = None
        self.pending.popleft()
        self.steps.append(step)
        self.messages.append(ToolMessage(step.tool, step.output, step.error, event.call_id))

    def _finished(self, event: RunFinished) -> None:
        self.asked = None
        self.result = event


_APPLY: dict[type[Event], Callable[[AgentState, Any], None]] = {
    RunStarted: AgentState._started,
    ModelRequested: AgentState._requested,
    ModelFailed: AgentState._failed,
    ModelDecided: AgentState._decided,
    ModelRejected: AgentState._rejected,
    ContextCompacted: AgentState._compacted,
    ToolIntended: AgentState._intended,
    ToolCompleted: AgentState._completed,
    ToolInterrupted: AgentState._interrupted,
    ToolResolved: AgentState._resolved,
    RunFinished: AgentState._finished,
}
"""The transitions, one for each event there is (a test holds the table against the union)."""
