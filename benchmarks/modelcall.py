"""What our side of a model call costs in CPU time: everything but the provider's library and the wire."""

from __future__ import annotations

import gc
from time import process_time

from app.agent.core import Agent
from app.agent.events import ModelDecided, ModelRequested
from app.agent.journal import ListJournal
from app.agent.loop import Loop
from app.agent.state import AgentState
from app.jsonvalue import JsonObject
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, ToolCall, Usage
from app.llm.providers.names import parse_model_name
from app.llm.providers.prices import pricing
from benchmarks.row import Row

REAL = parse_model_name("anthropic:claude-sonnet-4-5")
MESSAGES = 20
RESULT: JsonObject = {"text": "It is what the page says of it. " * 32}
"""A kilobyte, as of a page that was read."""


class KnownModel:
    """A client with the card of a real model; it answers at once."""

    def __init__(self) -> None:
        self.card = ModelCard(str(REAL), REAL.family.provider, 200_000, 8_192, pricing(REAL))

    async def complete(self, request: LLMRequest) -> LLMResponse:
        asked = len(request.messages)
        usage = Usage(500 + asked * 150, 40)
        if asked == 1:
            return LLMResponse("", usage=usage)  # to be mended: so there is an even number of messages
        if asked > MESSAGES:
            return LLMResponse("done", (), usage, "claude", "stop")
        return LLMResponse("", (ToolCall("page", {"of": asked}, "call-1"),), usage, "claude", "tool_call")


class PageTool:
    """Reads a page, at once."""

    name = "page"
    description = "Read a page."
    input_schema: JsonObject = {"type": "object", "properties": {"of": {"type": "integer"}}, "required": ["of"]}
    effect = "read"
    quick = True

    def run(self, input: JsonObject) -> JsonObject:  # noqa: ARG002 - the name is the protocol's
        return RESULT


def _loop(agent: Agent) -> tuple[AgentState, Loop]:
    state, journal = AgentState(), ListJournal()
    state.apply(journal.append(agent.opening("Read the pages.", max_tokens=10**7, max_cost=10**11)))
    return state, agent.loop(state, journal, "run-1")


async def _sample(agent: Agent, runs: int) -> float:
    """Return the CPU microseconds of asking for one decision and recording it, with MESSAGES messages so far."""
    seconds = 0.0
    for _ in range(runs):
        state, loop = _loop(agent)
        while len(state.messages) < MESSAGES or state.pending:
            await loop.next_event()
        started = process_time()
        requested = await loop.next_event()
        decided = await loop.next_event()
        seconds += process_time() - started
        assert isinstance(requested, ModelRequested)
        assert requested.reserved is not None
        assert isinstance(decided, ModelDecided)
        assert decided.cost is not None
    return seconds / runs * 1e6


async def measure(*, quick: bool) -> list[Row]:
    """Return the row: the context's size, the budget, the request, the check of the answer, and two events."""
    agent = Agent(KnownModel(), [PageTool()])
    samples = []
    for _ in range(3 if quick else 30):
        gc.collect()
        samples.append(await _sample(agent, 10 if quick else 100))
    what = f"CPU of our side of a model call ({MESSAGES} messages, budget, prices)"
    return [Row(what, "µs", min(samples), target=100.0, scales=True)]
