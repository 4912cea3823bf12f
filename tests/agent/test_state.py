from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from app.agent.events import (
    ContextCompacted,
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    Reserved,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from app.agent.state import _APPLY, AgentState
from app.llm.interface import AssistantMessage, CorrectionMessage, ToolCall, ToolMessage, Usage, UserMessage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


reservations = st.none() | st.builds(Reserved, st.integers(1, 999), st.none() | st.integers(1, 999))
usages = st.none() | st.builds(Usage, st.integers(1, 99), st.integers(0, 99))
costs = st.none() | st.integers(0, 99)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Runs as the loop writes them: turns of calls or rejections, in order, finished or not."""
    events: list[Event] = [RunStarted("goal", None, ("a", "b"))]
    step = 0
    for turn in range(1, draw(st.integers(1, 6)) + 1):
        if step and draw(st.booleans()):
            events.append(ContextCompacted(tuple(draw(st.sets(st.integers(1, step), min_size=1)))))
        for _ in range(draw(st.integers(0, 2))):
            events.append(ModelRequested(turn, "m", draw(reservations)))
            events.append(ModelFailed(turn, "m", "llm_timeout", "slow", draw(st.booleans())))
        events.append(draw(st.sampled_from([ModelRequested(turn), ModelRequested(turn, "n", draw(reservations))])))
        if draw(st.booleans()):
            events.append(ModelRejected(turn, "no", draw(usages), draw(costs)))
            continue
        calls = tuple(ToolCall(draw(st.sampled_from("ab")), {"n": n}) for n in range(draw(st.integers(1, 4))))
        events.append(ModelDecided(turn, "", calls, usage=draw(usages), cost=draw(costs)))
        for call in calls:
            step += 1
            if draw(st.booleans()):
                events.append(ToolIntended(step, call.name, call.arguments))
                attempts = range(1, draw(st.integers(0, 2)) + 1)
                events.extend(
                    ToolInterrupted(step, call.name, number, "why", in_doubt=False) for number in attempts
                )
                if draw(st.booleans()):
                    events.append(ToolInterrupted(step, call.name, 3, "why", in_doubt=True))
                    events.append(ToolResolved(step, happened=draw(st.booleans())))
                    if not events[-1].happened:  # type: ignore[union-attr]
                        events.append(ToolIntended(step, call.name, call.arguments))
            events.append(ToolCompleted(Step(step, call.name, call.arguments, {}, None, NOW)))
    if draw(st.booleans()):
        events.append(RunFinished("success", "end"))
    return events[: draw(st.integers(1, len(events)))]


@given(histories())
def test_state_is_nothing_but_the_fold_of_its_events(events: list[Event]) -> None:
    state = AgentState.fold(events)
    completed = [event.step for event in events if isinstance(event, ToolCompleted)]
    decided = [call for event in events if isinstance(event, ModelDecided) for call in event.tool_calls]
    assert state.steps == completed
    assert [step.step for step in state.steps] == list(range(1, len(completed) + 1))
    assert list(state.pending) == decided[len(completed) :]
    assert state.turns == max((event.turn for event in events if isinstance(event, ModelRequested)), default=0)
    last = events[-1]
    under_way = isinstance(last, ToolIntended | ToolInterrupted) or (
        isinstance(last, ToolResolved) and last.happened
    )
    assert (state.intended is not None) == under_way
    assert (state.doubt is not None) == (isinstance(last, ToolInterrupted) and last.in_doubt)
    assert (state.resolved is not None) == (isinstance(last, ToolResolved) and last.happened)
    if isinstance(last, ToolInterrupted):
        assert state.attempts == last.attempt
    elif isinstance(last, ToolIntended):
        assert state.attempts == 0
    assert (state.result is not None) == isinstance(events[-1], RunFinished)


@given(histories(), st.data())
def test_folding_in_two_parts_is_folding_at_once(events: list[Event], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    state = AgentState.fold(events[:cut])
    for event in events[cut:]:
        state.apply(event)
    whole = AgentState.fold(events)
    assert all(getattr(state, name) == getattr(whole, name) for name in AgentState.__slots__)


@given(histories())
def test_what_is_reserved_is_counted_until_it_is_known_what_it_took(events: list[Event]) -> None:
    tokens, asked = 0, None
    for event in events:
        if isinstance(event, ModelRequested):
            asked = event.reserved
        elif isinstance(event, ModelFailed):
            tokens += asked.tokens if asked is not None and event.may_be_paid else 0
        elif isinstance(event, ModelDecided | ModelRejected):
            if event.usage is not None:
                tokens += event.usage.input_tokens + event.usage.output_tokens
            else:
                tokens += 0 if asked is None else asked.tokens
    assert AgentState.fold(events).spending.tokens == tokens


def test_the_model_sees_the_run_as_messages() -> None:
    call = ToolCall("a", {"n": 1}, "call-1")
    state = AgentState.fold(
        [
            RunStarted("goal", "context", ("a",)),
            ModelRejected(1, "say it in JSON"),
            ModelDecided(2, "thinking", (call,)),
            ToolCompleted(Step(1, "a", {"n": 1}, {"ok": True}, None, NOW), call_id="call-1"),
        ]
    )
    assert state.messages == [
        UserMessage("goal", "context"),
        CorrectionMessage("say it in JSON"),
        AssistantMessage("thinking", (call,)),
        ToolMessage("a", {"ok": True}, None, "call-1"),
    ]
    assert state.corrections == 0


def test_there_is_a_transition_for_every_event() -> None:
    assert set(_APPLY) == set(get_args(Event))
