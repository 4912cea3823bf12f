"""The state of a run: the fold of its events, and nothing else. No `await` in this file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import assert_never

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
)


class AgentState:
    """Where a run stands. `apply` is the only way to change it, appends only, and costs the same at any length.

    Resuming is reading: `AgentState.fold(events)` is the state, and the loop goes on from it.
    """

    __slots__ = ("corrections", "intended", "messages", "pending", "result", "steps", "tools", "turns")

    def __init__(self) -> None:
        self.tools: tuple[str, ...] = ()
        self.messages: list[Message] = []
        self.steps: list[Step] = []
        self.pending: deque[ToolCall] = deque()
        self.intended: ToolIntended | None = None
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
        match event:
            case ToolCompleted():
                self._completed(event)
            case ToolIntended():
                self.intended = event
            case ModelRequested():
                self.turns = event.turn
            case ModelDecided():
                self.messages.append(AssistantMessage(event.content, event.tool_calls, event.declined))
                self.pending.extend(event.tool_calls)
                self.corrections = 0
            case ModelRejected():
                self.messages.append(CorrectionMessage(event.problem))
                self.corrections += 1
            case RunFinished():
                self.result = event
            case RunStarted():
                self.tools = event.tools
                self.messages.append(UserMessage(event.goal, event.context))
            case _:
                assert_never(event)

    def _completed(self, event: ToolCompleted) -> None:
        step = event.step
        self.steps.append(step)
        self.intended = None
        self.pending.popleft()
        self.messages.append(ToolMessage(step.tool, step.output, step.error, event.call_id))
