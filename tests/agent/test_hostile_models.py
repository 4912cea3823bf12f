"""Whatever models say, a run ends within its limits, and its trace is well-formed.

AGENT_HOSTILE_EXAMPLES=10000 pytest tests/agent/test_hostile_models.py tries as many sequences of replies.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_models import Prices
from fakes import FakeTool
from hostile_replies import HostileModel, HostileStream, HostileText, Raises, replies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.agent import attempts
from app.agent.asking import MAX_CORRECTIONS
from app.agent.core import Agent
from app.agent.events import Event, ModelDecided, ModelRejected, ModelRequested, RunFinished, ToolCompleted
from app.agent.journal import ListJournal
from app.agent.result import AgentResult
from app.agent.state import AgentState
from app.errors import ToolRejected
from app.jsonvalue import text_problem
from app.llm.interface import LLMResponse, ModelCard, TextDelta
from app.runs.chain import GENESIS
from app.runs.codec import read, store

EXAMPLES = int(os.environ.get("AGENT_HOSTILE_EXAMPLES", "400"))
MAX_STEPS, MAX_RETRIES = 5, 1
NOW = datetime(2026, 1, 1, tzinfo=UTC)

cards = st.builds(
    ModelCard,
    st.just("m"),
    context_tokens=st.none() | st.sampled_from([50, 3_000]),
    max_output_tokens=st.none() | st.just(400),
    pricing=st.none() | st.just(Prices()),
)
budgets = st.sampled_from(
    [{}, {"max_tokens": 1}, {"max_tokens": 8_000}, {"max_tokens": 10**6, "max_cost": 40_000}, {"max_cost": 10**9}]
)
forms = st.sampled_from([None, None, {"type": "object", "required": ["total"]}])


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BASE_S", 0.0)


def fail(given: dict[str, Any]) -> Any:
    if given.get("n") == 1:
        raise ToolRejected("\ud800\0", "Not a code")
    return object()


async def slow(given: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"text": "x" * 40_000}


def tools() -> list[FakeTool]:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    return [
        FakeTool(lambda given: dict(given), "probe", effect="pure", quick=True),
        FakeTool(slow, "read", schema, effect="read"),
        FakeTool(lambda given: {"written": True}, "write", quick=True),
        FakeTool(fail, "fails", quick=True),
    ]


def client_of(shape: str, said: list[Any], card: ModelCard) -> Any:
    if shape == "text":
        return HostileText(said)
    kind = HostileStream if shape == "stream" else HostileModel
    return kind(said, None if shape == "bare" else card)


async def carried_out(agent: Agent, opening: dict[str, Any]) -> tuple[list[Event], AgentState, list[str]]:
    state, journal = AgentState(), ListJournal()
    state.apply(journal.append(agent.opening("go", **opening)))
    heard: list[str] = []
    loop = agent.loop(state, journal, "run-1", on_delta=heard.append)
    try:
        while state.result is None and not loop.is_waiting:
            await loop.next_event()
            assert len(journal.events) < 500
    finally:
        loop.close()
    return journal.events, state, heard


def check_trace(events: list[Event], state: AgentState) -> None:
    """The steps are numbered, the end is one, and what is stored is what there was."""
    stored = [store("run-1", at, GENESIS, NOW, event) for at, event in enumerate(events, 1)]
    assert not any("\\u0000" in item.body for item in stored)
    decoded = [read(item).event for item in stored]
    assert decoded == events
    folded = AgentState.fold(decoded)
    for name in AgentState.__slots__:
        assert getattr(folded, name) == getattr(state, name), name
    completed = [event.step for event in events if isinstance(event, ToolCompleted)]
    assert [step.step for step in completed] == list(range(1, len(completed) + 1))
    assert sum(isinstance(event, RunFinished) for event in events) == 1
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.status in ("success", "error")
    assert (end.reason is None) == (end.status == "success")
    assert text_problem(end.output) is None
    AgentResult(end.status, end.output, completed).model_dump_json().encode()


def check_limits(events: list[Event], state: AgentState, budget: dict[str, int]) -> None:
    assert len(state.steps) <= MAX_STEPS
    in_a_row = 0
    for event in events:
        in_a_row = in_a_row + 1 if isinstance(event, ModelRejected) else in_a_row
        in_a_row = 0 if isinstance(event, ModelDecided) else in_a_row
        assert in_a_row <= MAX_CORRECTIONS + 1
    spending = AgentState().spending
    so_far = AgentState()
    for event in events:
        so_far.apply(event)
        if isinstance(event, ModelRequested) and event.reserved is not None:
            spending = so_far.spending
            assert spending.tokens + event.reserved.tokens <= budget.get("max_tokens", 10**12)
            assert spending.cost + (event.reserved.cost or 0) <= budget.get("max_cost", 10**12)
    assert (spending.tokens, spending.cost) >= (0, 0)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["complete", "stream", "bare", "text"]),
    st.lists(replies(), min_size=1, max_size=6),
    st.lists(replies(), min_size=1, max_size=2),
    cards,
    budgets,
    forms,
)
def test_whatever_models_say_a_run_ends_within_its_limits_with_a_whole_trace(
    shape: str,
    said: list[Any],
    said_by_the_other: list[Any],
    card: ModelCard,
    budget: dict[str, int],
    form: dict[str, Any] | None,
) -> None:
    other = HostileModel(said_by_the_other, ModelCard("other", max_output_tokens=300, pricing=Prices()))
    agent = Agent(
        client_of(shape, said, card),
        tools(),
        MAX_STEPS,
        0.9,
        fallbacks=[other],
        max_retries=MAX_RETRIES,
        allows_unknown_prices=True,
    )
    events, state, heard = asyncio.run(carried_out(agent, {**budget, "output_schema": form}))
    assert state.result is not None
    assert all(isinstance(text, str) for text in heard)
    check_trace(events, state)
    check_limits(events, state, budget)


@pytest.mark.parametrize("declined", ["yes", None, 0, [1]])
async def test_what_a_client_says_loosely_is_stored_strictly(declined: Any) -> None:
    agent = Agent(HostileModel([LLMResponse("no", declined=declined)], ModelCard("m")), [])
    events, state, _ = await carried_out(agent, {})
    check_trace(events, state)
    assert events[2] == ModelDecided(1, "no", declined=bool(declined))


async def test_a_stream_that_ends_without_a_response_is_tried_again() -> None:
    class Broken(HostileStream):
        async def stream(self, request: Any) -> Any:
            self.asked += 1
            yield TextDelta("It is")
            if self.asked > 1:
                yield LLMResponse("It is four.")

    events, _, heard = await carried_out(Agent(Broken([], ModelCard("m")), []), {})
    assert [type(event).__name__ for event in events[1:4]] == ["ModelRequested", "ModelFailed", "ModelRequested"]
    assert events[-1] == RunFinished("success", "It is four.")
    assert heard == ["It is"] * 2


async def test_ctrl_c_still_works() -> None:
    agent = Agent(HostileModel([Raises(KeyboardInterrupt())], ModelCard("m")), [])
    with pytest.raises(KeyboardInterrupt):
        await carried_out(agent, {})
