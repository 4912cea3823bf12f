"""The state of a run: the fold of its events, and nothing else. No `await` in this file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..llm.interface import AssistantMessage, CorrectionMessage, Message, ToolCall, ToolMessage, UserMessage
from .events import (
    Event,
    ModelDecided,
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


class AgentState:
    """Where a run stands. `apply` is the only way to change it, appends only, and costs the same at any length.

    Resuming is reading: `AgentState.fold(events)` is the state, and the loop goes on from it.
    """

    __slots__ = (
        "asked",
        "attempts",
        "corrections",
        "doubt",
        "intended",
        "max_steps",
        "messages",
        "pending",
        "resolved",
        "result",
        "steps",
        "tools",
        "turns",
    )

    def __init__(self) -> None:
        self.tools: tuple[str, ...] = ()
        self.max_steps: int | None = None
        self.messages: list[Message] = []
        self.steps: list[Step] = []
        self.pending: deque[ToolCall] = deque()
        self.intended: ToolIntended | None = None
        self.attempts = 0
        self.doubt: ToolInterrupted | None = None
        self.resolved: ToolResolved | None = None
        self.asked = False
        self.turns = 0
        self.corrections = 0
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
        self.tools = event.tools
        self.max_steps = event.max_steps
        self.messages.append(UserMessage(event.goal, event.context))

    def _requested(self, event: ModelRequested) -> None:
        self.turns = event.turn
        self.asked = True

    def _decided(self, event: ModelDecided) -> None:
        self.asked = False
        self.corrections = 0
        self.pending.extend(event.tool_calls)
        self.messages.append(AssistantMessage(event.content, event.tool_calls, event.declined))

    def _rejected(self, event: ModelRejected) -> None:
        self.asked = False
        self.corrections += 1
        self.messages.append(CorrectionMessage(event.problem))

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
        self.asked = False
        self.result = event


_APPLY: dict[type[Event], Callable[[AgentState, Any], None]] = {
    RunStarted: AgentState._started,
    ModelRequested: AgentState._requested,
    ModelDecided: AgentState._decided,
    ModelRejected: AgentState._rejected,
    ToolIntended: AgentState._intended,
    ToolCompleted: AgentState._completed,
    ToolInterrupted: AgentState._interrupted,
    ToolResolved: AgentState._resolved,
    RunFinished: AgentState._finished,
}
"""The transitions, one for each event there is (a test holds the table against the union)."""
