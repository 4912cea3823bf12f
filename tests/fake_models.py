"""Stand-ins for real models: clients with a name, a card and prices, and one that counts like a provider."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fakes import ScriptedModel

from app.agent.core import Agent
from app.agent.events import Event, RunFinished
from app.agent.journal import ListJournal
from app.agent.state import AgentState
from app.errors import LLMUnavailableError, ModelResponseError
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, ToolCall, Usage


@dataclass(frozen=True)
class Prices:
    """Nano-dollars a token; above `tier` input tokens everything costs twice as much."""

    input: int = 2
    output: int = 10
    read: int = 1
    write: int = 3
    tier: int = 10**9

    def cost(self, usage: Usage) -> int:
        plain = max(usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0)
        factor = 2 if usage.input_tokens > self.tier else 1
        return factor * (
            plain * self.input
            + usage.cache_read_tokens * self.read
            + usage.cache_write_tokens * self.write
            + usage.output_tokens * self.output
        )


class NamedModel(ScriptedModel):
    """A scripted client with a card."""

    def __init__(self, name: str, *replies: object, **card: Any) -> None:
        super().__init__(*replies)
        self.card = ModelCard(name, "fake", **card)


@dataclass
class Meter:
    """What a provider bills for one run."""

    tokens: int = 0
    cost: int = 0
    calls: int = 0


@dataclass
class MeteredModel:
    """A provider that counts what it really does and keeps to the limit it is given, but does not always say so.

    A token is a byte of what it is sent or less, as in a tokenizer, and depends on the text alone. It sometimes
    fails after having worked, tells nothing of usage, or gives an answer that has to be mended.
    """

    seed: int
    meter: Meter
    card: ModelCard
    turns: int = 6
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311

    async def complete(self, request: LLMRequest) -> LLMResponse:
        assert request.max_output_tokens is not None
        wanted = self.random.choice([1, 20, 200, 5_000])
        given = min(wanted, request.max_output_tokens)
        counted = tokens_of(request)
        read = self.random.choice([0, counted // 2])
        written = self.random.choice([0, counted - read])
        usage = Usage(counted, given, read, written)
        self._bill(usage)
        fate = self.random.random()
        if fate < 0.15:
            raise LLMUnavailableError("It broke off.", may_be_paid=True)
        told = None if fate < 0.3 else usage
        if fate > 0.9:
            error = ModelResponseError("Say it in JSON.")
            error.usage = told
            raise error
        if given < wanted:
            return LLMResponse("x" * given, usage=told, finish_reason="length")
        if len(request.messages) > self.turns:
            return LLMResponse("done", usage=told, finish_reason="stop")
        return LLMResponse("", (ToolCall("probe", {"n": given}),), told, finish_reason="tool_call")

    def _bill(self, usage: Usage) -> None:
        assert self.card.pricing is not None
        self.meter.calls += 1
        self.meter.tokens += usage.input_tokens + usage.output_tokens
        self.meter.cost += self.card.pricing.cost(usage)


def tokens_of(request: LLMRequest) -> int:
    """Count as a tokenizer that finds a token in nearly every byte of what is said, and adds some of its own."""
    system = len(request.system) + sum(len(msgspec.json.encode(tool)) for tool in request.tools)
    return 300 + system + sum(len(msgspec.json.encode(message)) * 9 // 10 for message in request.messages)


async def events_of(agent: Agent, goal: str = "go", **opening: Any) -> list[Event]:
    """Carry a run out to its end and return all its events, the first among them."""
    journal = ListJournal()
    async for _ in agent.advance(AgentState(), journal, agent.opening(goal, **opening)):
        pass
    return journal.events


async def resumed(agent: Agent, events: list[Event], on_commit: Callable[[], None] = lambda: None) -> list[Event]:
    """Go on from what is left of a run, and return all its events."""
    journal = ListJournal()
    async for _ in agent.advance(AgentState.fold(events), journal):
        on_commit()
    return [*events, *journal.events]


def end_of(events: list[Event]) -> RunFinished:
    """Return how a run ended."""
    last = events[-1]
    assert isinstance(last, RunFinished)
    return last
