from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from fake_models import Meter, MeteredModel, NamedModel, Prices, end_of, events_of, resumed
from fakes import FakeTool, answer
from hypothesis import given
from hypothesis import strategies as st

from app.agent import attempts
from app.agent.attempts import INTERRUPTED
from app.agent.budget import LEAST_OUTPUT, Budget, Grant, Shortage, grant, usd
from app.agent.core import Agent
from app.agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    Reserved,
    RunFinished,
    RunStarted,
)
from app.agent.journal import ListJournal
from app.agent.spending import Spending
from app.agent.state import AgentState
from app.errors import (
    InvalidBudgetError,
    LLMUnavailableError,
    ModelResponseError,
    UnpricedModelError,
)
from app.llm.interface import LLMResponse, ModelCard, ToolCall, Usage

PRICED = {"pricing": Prices(), "max_output_tokens": 4_000}


def said(text: str, usage: Usage | None, reason: str = "stop") -> LLMResponse:
    return LLMResponse(text, usage=usage, finish_reason=reason)


def called(usage: Usage | None) -> LLMResponse:
    return LLMResponse("", (ToolCall("probe", {}),), usage)


def reservations(events: list[Event]) -> list[Reserved]:
    return [event.reserved for event in events if isinstance(event, ModelRequested) and event.reserved]


def spent(tokens: int, cost: int = 0) -> Spending:
    spending = Spending()
    spending.tokens, spending.cost = tokens, cost
    return spending


# one reservation

prices = st.builds(
    Prices,
    input=st.integers(0, 10_000),
    output=st.integers(0, 100_000),
    read=st.integers(0, 20_000),
    write=st.integers(0, 20_000),
    tier=st.sampled_from([10**9, 0, 100, 5_000]),
)
cards = st.builds(
    ModelCard,
    st.just("m"),
    max_output_tokens=st.none() | st.integers(LEAST_OUTPUT, 200_000),
    pricing=st.none() | prices,
)
limits = st.none() | st.integers(1, 10**12)


@given(
    st.builds(Budget, st.none() | st.integers(1, 10**6), limits),
    st.builds(spent, st.integers(0, 10**6), st.integers(0, 10**12)),
    cards,
    st.integers(0, 200_000),
    st.data(),
)
def test_no_call_can_take_more_than_is_reserved_nor_that_more_than_is_left(
    budget: Budget, spending: Spending, card: ModelCard, input_tokens: int, data: st.DataObject
) -> None:
    granted = grant(budget, spending, card, input_tokens)
    if isinstance(granted, Shortage):
        assert granted.limit in ("max_tokens", "max_cost")
        assert granted.left < granted.needed
        return
    assert granted.max_output_tokens >= LEAST_OUTPUT
    assert granted.reserved.tokens == input_tokens + granted.max_output_tokens
    if budget.max_tokens is not None:
        assert spending.tokens + granted.reserved.tokens <= budget.max_tokens
    if card.max_output_tokens is not None:
        assert granted.max_output_tokens <= card.max_output_tokens
        assert granted.is_last <= (granted.max_output_tokens < card.max_output_tokens)
    if budget.max_cost is None or card.pricing is None:
        assert granted.reserved.cost is None
        return
    assert granted.reserved.cost is not None
    assert spending.cost + granted.reserved.cost <= budget.max_cost
    real_input = data.draw(st.integers(0, input_tokens))
    written = data.draw(st.integers(0, real_input))
    read = data.draw(st.integers(0, real_input - written))
    real_output = data.draw(st.integers(0, granted.max_output_tokens))
    assert card.pricing.cost(Usage(real_input, real_output, read, written)) <= granted.reserved.cost


def test_as_much_of_the_budget_as_there_is_may_be_used() -> None:
    card = ModelCard("m", max_output_tokens=1_000, pricing=Prices(input=2, output=10, write=2))
    by_tokens = grant(Budget(600), spent(100), card, 300)
    assert by_tokens == Grant(200, Reserved(500), is_last=True)
    by_cost = grant(Budget(None, 3_000), spent(0, 400), card, 300)
    assert by_cost == Grant(200, Reserved(500, 2_600), is_last=True)
    assert grant(Budget(10**6, 10**9), spent(0), card, 300) == Grant(1_000, Reserved(1_300, 10_600), is_last=False)


def test_a_call_that_may_fail_leaves_something_for_another() -> None:
    card = ModelCard("m", max_output_tokens=16_000)
    first = grant(Budget(8_300), spent(0), card, 300)
    assert first == Grant(4_000, Reserved(4_300), is_last=False)
    second = grant(Budget(8_300), spent(4_300), card, 300)
    assert second == Grant(1_850, Reserved(2_150), is_last=False)
    third = grant(Budget(8_300), spent(6_450), card, 300)
    assert third == Grant(1_550, Reserved(1_850), is_last=True)


@pytest.mark.parametrize(
    ("room", "most"), [(None, 1_000), (5_000, 1_000), (700, 700), (3, LEAST_OUTPUT), (-9, 16)]
)
def test_an_answer_may_be_as_long_as_the_window_leaves_room(room: int | None, most: int) -> None:
    card = ModelCard("m", max_output_tokens=1_000)
    granted = grant(Budget(100_000), spent(0), card, 300, room)
    assert granted == Grant(most, Reserved(300 + most), is_last=False)


async def test_a_small_window_is_not_asked_for_more_than_it_holds() -> None:
    model = NamedModel("a", answer(), context_tokens=4_096)
    await events_of(Agent(model, [], max_tokens=100_000))
    asked_for = model.requests[0].max_output_tokens
    assert asked_for is not None
    assert 3_000 < asked_for < 4_096


async def test_a_journal_may_give_back_another_object_than_it_was_given() -> None:
    class Copying(ListJournal):
        def append(self, event: Event) -> Event:
            return super().append(msgspec.structs.replace(event))

    agent = Agent(NamedModel("a", answer()), [], max_tokens=100_000)
    events = [event async for event in agent.advance(AgentState(), Copying(), agent.opening("go"))]
    assert end_of(events).status == "success"


def test_a_shortage_says_how_much_it_would_have_taken() -> None:
    card = ModelCard("m", pricing=Prices(input=2, output=10, write=2))
    assert grant(Budget(400), spent(100), card, 300) == Shortage("max_tokens", 300, 300 + LEAST_OUTPUT)
    assert grant(Budget(100), spent(200), card, 300) == Shortage("max_tokens", 0, 300 + LEAST_OUTPUT)
    needed = 600 + 10 * LEAST_OUTPUT
    assert grant(Budget(None, needed - 1), spent(0), card, 300) == Shortage("max_cost", needed - 1, needed)
    assert isinstance(grant(Budget(None, needed), spent(0), card, 300), Grant)


@pytest.mark.parametrize(
    ("nano", "text"), [(1, "0.000000001"), (10**9, "1"), (1_500_000_000, "1.5"), (0, "0"), (10**12, "1000")]
)
def test_sums_are_shown_in_dollars_exactly(nano: int, text: str) -> None:
    assert usd(nano) == text


# ceilings


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, Budget(1_000, 5_000)),
        ({"max_tokens": 10}, Budget(10, 5_000)),
        ({"max_tokens": 1_000, "max_cost": 1}, Budget(1_000, 1)),
    ],
)
def test_a_run_may_ask_for_less(asked: dict[str, int], expected: Budget) -> None:
    assert Budget(1_000, 5_000).narrowed(asked.get("max_tokens"), asked.get("max_cost")) == expected


@pytest.mark.parametrize(
    "asked", [{"max_tokens": 1_001}, {"max_cost": 5_001}, {"max_tokens": 0}, {"max_cost": -1}]
)
def test_a_run_may_not_ask_for_more_or_for_nothing(asked: dict[str, int]) -> None:
    agent = Agent(NamedModel("a", answer(), **PRICED), [], max_tokens=1_000, max_cost=5_000)
    with pytest.raises(InvalidBudgetError):
        agent.opening("go", **asked)


def test_without_a_ceiling_a_run_has_the_budget_that_it_asks_for() -> None:
    assert Budget().narrowed(7, 8) == Budget(7, 8)
    assert not Budget()
    assert Budget().narrowed(None, None) == Budget()


async def test_a_run_that_was_allowed_more_goes_on_within_what_is_allowed_now() -> None:
    model = NamedModel("a", answer())
    events = await resumed(Agent(model, [], max_tokens=50), [RunStarted("go", None, (), max_tokens=100_000)])
    assert (end_of(events).reason, model.requests) == ("token_limit", [])
    assert "50 tokens" in end_of(events).output


def test_what_nobody_knows_the_price_of_is_not_kept_within_a_sum_unless_told_otherwise() -> None:
    unknown = NamedModel("b", answer())
    for models in ([unknown], [NamedModel("a", answer(), **PRICED), unknown]):
        agent = Agent(models[0], [], fallbacks=models[1:])
        agent.opening("go")
        agent.opening("go", max_tokens=10)
        with pytest.raises(UnpricedModelError, match="the price of b is unknown"):
            agent.opening("go", max_cost=10**9)
    Agent(unknown, [], allows_unknown_prices=True).opening("go", max_cost=10**9)
    Agent(max_cost=10**9).opening("go")  # the offline planner costs nothing


async def test_a_free_model_takes_nothing_of_a_budget() -> None:
    result = await Agent(max_tokens=1, max_cost=1).arun("Calculate 2+2")
    assert result.status == "success"


# what counts


def asked(tokens: int = 100, cost: int | None = 50) -> ModelRequested:
    return ModelRequested(1, "a", Reserved(tokens, cost))


@pytest.mark.parametrize(
    ("events", "tokens", "cost", "used_cost", "is_priced"),
    [
        ([asked(), ModelDecided(1, "x", usage=Usage(10, 5), cost=7)], 15, 7, 7, True),
        ([asked(), ModelRejected(1, "x", Usage(10, 5), 7)], 15, 7, 7, True),
        ([asked(), ModelDecided(1, "x")], 100, 50, 0, True),
        ([asked(), ModelRejected(1, "x")], 100, 50, 0, True),
        ([asked(), ModelDecided(1, "x", usage=Usage(10, 5))], 15, 50, 0, False),
        ([asked(), ModelFailed(1, "a", "llm_timeout", "x", may_be_paid=True)], 100, 50, 0, True),
        ([asked(), ModelFailed(1, "a", "llm_timeout", "x", may_be_paid=False)], 0, 0, 0, True),
        ([asked(), ModelFailed(1, "a", INTERRUPTED, "x", may_be_paid=True)], 100, 50, 0, True),
        ([asked(cost=None), ModelDecided(1, "x", usage=Usage(10, 5))], 15, 0, 0, False),
        ([ModelRequested(1, "a"), ModelDecided(1, "x", usage=Usage(10, 5), cost=7)], 15, 7, 7, True),
        ([ModelRequested(1), ModelDecided(1, "x")], 0, 0, 0, True),
        ([asked()], 0, 0, 0, True),
    ],
)
def test_what_a_call_counts_as(
    events: list[Event], tokens: int, cost: int, used_cost: int, is_priced: bool
) -> None:
    spending = AgentState.fold([RunStarted("go", None, ()), *events]).spending
    assert (spending.tokens, spending.cost) == (tokens, cost)
    assert (spending.used_cost, spending.is_priced) == (used_cost, is_priced)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(),
        Usage(-5, 10),
        Usage(5, -10),
        Usage(5, 10, -1),
        Usage(5, 10, 0, -1),
        Usage(10**30, 1),
        Usage(1, 10**10),
        Usage("5", 10),  # type: ignore[arg-type]
        Usage(5.5, 10),  # type: ignore[arg-type]
        Usage(True, 10),
        Usage(None, 10),  # type: ignore[arg-type]
        Usage(float("nan"), 10),  # type: ignore[arg-type]
        {"input_tokens": 5},
        "much",
    ],
)
@pytest.mark.parametrize("how", ["answer", "rejected", "raised"])
async def test_a_call_of_which_nothing_credible_is_told_counts_as_all_that_was_reserved(
    usage: Any, how: str
) -> None:
    error = ModelResponseError("Say it in JSON.")
    error.usage = usage
    first: object = {"answer": said("done", usage), "rejected": said("", usage), "raised": error}[how]
    model = NamedModel("a", first, said("done", Usage(1, 1)), **PRICED)
    events = await events_of(Agent(model, [], max_tokens=100_000, max_cost=10**9))
    assert end_of(events).status == "success"
    ended = events[2]
    assert isinstance(ended, ModelDecided | ModelRejected)
    assert (ended.usage, ended.cost) == (None, None)
    settled = AgentState.fold(events[:3]).spending
    reserved = reservations(events)[0]
    assert (settled.tokens, settled.cost) == (reserved.tokens, reserved.cost)


async def test_an_answer_that_has_to_be_mended_is_paid_all_the_same() -> None:
    error = ModelResponseError("Say it in JSON.")
    error.usage = Usage(10, 5)
    events = await events_of(Agent(NamedModel("a", error, answer(), **PRICED), [], max_tokens=100_000))
    assert events[2] == ModelRejected(1, "Say it in JSON.", Usage(10, 5), 70)
    assert AgentState.fold(events[:3]).spending.tokens == 15


async def test_usage_and_cost_are_in_the_events_without_any_budget() -> None:
    events = await events_of(Agent(NamedModel("a", said("done", Usage(10, 5)), **PRICED), []))
    assert isinstance(events[2], ModelDecided)
    assert (events[2].usage, events[2].cost) == (Usage(10, 5), 70)
    spending = AgentState.fold(events).spending
    assert (spending.usage, spending.used_cost, spending.is_priced) == (Usage(10, 5), 70, True)


@pytest.mark.parametrize("may_be_paid", [True, False])
async def test_a_failed_attempt_that_may_be_paid_stays_reserved(
    may_be_paid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BASE_S", 0.001)
    model = NamedModel("a", LLMUnavailableError("Down.", may_be_paid=may_be_paid), said("done", Usage(7, 3)))
    events = await events_of(Agent(model, [], max_tokens=100_000))
    first, _ = reservations(events)
    assert AgentState.fold(events).spending.tokens == 10 + (first.tokens if may_be_paid else 0)


async def test_failures_that_may_be_paid_use_a_budget_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BASE_S", 0.001)
    model = NamedModel("a", LLMUnavailableError("Down."), max_output_tokens=1_000)
    events = await events_of(Agent(model, [], max_retries=99, max_tokens=10_000))
    assert end_of(events).reason == "token_limit"
    assert 1 < len(model.requests) <= 5


# reaching a limit


async def test_a_run_that_has_used_its_tokens_up_ends_and_says_so_with_all_its_steps() -> None:
    model = NamedModel("a", called(Usage(1_000, 1_000)), max_output_tokens=2_000)
    events = await events_of(Agent(model, [FakeTool()], max_tokens=10_000))
    end = end_of(events)
    assert (end.status, end.reason) == ("error", "token_limit")
    assert end.output.startswith("Stopped without an answer at 10000 tokens, the limit of this run (max_tokens): ")
    assert len(AgentState.fold(events).steps) == len(model.requests) >= 3
    assert AgentState.fold(events).spending.tokens <= 10_000


async def test_a_run_that_has_used_its_money_up_ends_and_says_so() -> None:
    model = NamedModel("a", called(Usage(1_000, 1_000)), **PRICED)
    events = await events_of(Agent(model, [FakeTool()], max_cost=60_000))
    end = end_of(events)
    assert (end.status, end.reason) == ("error", "cost_limit")
    assert "0.00006 USD, the limit of this run (max_cost_usd)" in end.output
    assert len(AgentState.fold(events).steps) == len(model.requests) >= 2


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"max_tokens": 3_000}, "token_limit"),
        ({"max_cost": 16_000}, "cost_limit"),
        ({"max_tokens": 3_000, "max_cost": 10**9}, "token_limit"),
        ({"max_tokens": 10**6, "max_cost": 16_000}, "cost_limit"),
    ],
)
async def test_an_answer_that_the_budget_cut_off_is_in_the_output_and_the_limit_is_named(
    budget: dict[str, int], reason: str
) -> None:
    model = NamedModel("a", said("It is fo", Usage(500, 900), "length"), **PRICED)
    agent = Agent(model, [], **budget)  # type: ignore[arg-type]
    events = await events_of(agent)
    assert model.requests[0].max_output_tokens is not None
    assert model.requests[0].max_output_tokens < PRICED["max_output_tokens"]
    assert (end_of(events).status, end_of(events).reason) == ("error", reason)
    assert end_of(events).output.endswith("It began: It is fo")
    assert ("max_tokens" if reason == "token_limit" else "max_cost_usd") in end_of(events).output
    again = await resumed(agent, events[:-1])  # the process was killed before it had said so
    assert again[-1] == events[-1]


async def test_an_answer_that_only_the_model_cut_off_has_to_be_shorter() -> None:
    model = NamedModel("a", said("It is fo", Usage(5, 4_000), "length"), said("4", Usage(5, 1)), **PRICED)
    events = await events_of(Agent(model, [], max_tokens=10**6))
    assert end_of(events) == RunFinished("success", "4")
    assert isinstance(events[2], ModelRejected)


async def test_a_budget_that_not_even_one_call_fits_into_asks_nobody() -> None:
    model = NamedModel("a", answer())
    end = end_of(await events_of(Agent(model, [], max_tokens=100)))
    assert (end.reason, model.requests) == ("token_limit", [])
    assert "100 are left" not in end.output.partition(":")[0]


async def test_a_model_is_told_how_long_its_answer_may_be_only_within_a_budget() -> None:
    model = NamedModel("a", answer(), max_output_tokens=500)
    await events_of(Agent(model, []))
    await events_of(Agent(model, [], max_tokens=10**6))
    assert [request.max_output_tokens for request in model.requests] == [None, 500]


# crashes


async def test_after_a_crash_the_reservation_of_the_call_it_was_in_stays_spent() -> None:
    agent = Agent(NamedModel("a", said("done", Usage(10, 5))), [], max_tokens=10**6)
    events = await events_of(agent)
    assert isinstance(events[1], ModelRequested)
    again = await resumed(agent, events[:2])
    lost = again[2]
    assert isinstance(lost, ModelFailed)
    assert (lost.code, lost.may_be_paid, lost.turn) == (INTERRUPTED, True, 1)
    assert AgentState.fold(again).spending.tokens == reservations(events)[0].tokens + 15
    assert end_of(again).status == "success"


async def test_a_run_that_crashes_in_every_call_comes_to_the_end_of_its_budget() -> None:
    agent = Agent(NamedModel("a", answer(), max_output_tokens=1_000), [], max_tokens=20_000)
    events: list[Event] = [agent.opening("go")]
    for _ in range(100):
        went_on = await resumed(agent, events)
        requested = [at for at, event in enumerate(went_on) if isinstance(event, ModelRequested)]
        if requested[-1] < len(events):
            break
        events = went_on[: requested[-1] + 1]
    assert end_of(went_on).reason == "token_limit"
    assert AgentState.fold(went_on).spending.tokens <= 20_000


async def test_a_decision_that_the_journal_has_is_never_asked_for_again() -> None:
    model = NamedModel("a", said("done", Usage(10, 5)))
    agent = Agent(model, [], max_tokens=10**6)
    events = await events_of(agent)
    assert end_of(await resumed(agent, events[:3])).output == "done"
    assert len(model.requests) == 1


class Dying(ListJournal):
    """A journal whose process is killed at some barrier or between two: what was not durable yet is lost."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self._durable = 0

    async def commit(self) -> None:
        await asyncio.sleep(0)  # others go on meanwhile, in an order of their own
        self._maybe_die()
        self._durable = len(self.events)
        self._maybe_die()

    def append(self, event: Event) -> Event:
        self._maybe_die()
        return super().append(event)

    def _maybe_die(self) -> None:
        if self._dice.random() < 0.04:
            # some of what was not waited for has reached the disk all the same
            survivors = self._dice.randint(self._durable, len(self.events))
            del self.events[survivors:]
            raise _KilledError


class _KilledError(BaseException):
    pass


async def spend(seed: int, agent: Agent, opening: dict[str, Any]) -> tuple[list[Event], int]:
    """Carry a run out to its end through any number of deaths; return its events and how often it died."""
    dice, deaths = random.Random(seed), 0  # noqa: S311
    events: list[Event] = [agent.opening("go", **opening)]
    while not isinstance(events[-1], RunFinished):
        journal = Dying(dice)
        loop = agent.loop(AgentState.fold(events), journal, f"run-{seed}")
        try:
            while not journal.events or not isinstance(journal.events[-1], RunFinished):
                await loop.next_event()
        except _KilledError:
            deaths += 1
        finally:
            loop.close()
        events += journal.events
    return events, deaths


RUNS_AT_ONCE = 16


async def sixteen_runs(seed: int) -> int:
    """Let sixteen runs nearly spend their budgets through crashes; none may be billed for more than it has."""
    dice = random.Random(seed)  # noqa: S311
    pricing = Prices(dice.choice([0, 3, 50]), dice.choice([0, 15, 250]), 1, dice.choice([0, 4, 60]), 3_000)
    runs, meters = [], []
    for number in range(RUNS_AT_ONCE):
        meter = Meter()
        card = ModelCard("m", max_output_tokens=dice.choice([None, 100, 4_000]), pricing=pricing)
        client = MeteredModel(seed * RUNS_AT_ONCE + number, meter, card)
        budget = {
            "max_tokens": dice.choice([None, dice.randint(1_500, 20_000)]),
            "max_cost": dice.randint(1_000, 2_000_000),
        }
        agent = Agent(client, [FakeTool(effect="pure", quick=True)])
        runs.append(spend(seed * RUNS_AT_ONCE + number, agent, budget))
        meters.append((meter, budget))
    outcomes = await asyncio.gather(*runs)
    for (meter, budget), (events, _) in zip(meters, outcomes, strict=True):
        assert budget["max_tokens"] is None or meter.tokens <= budget["max_tokens"], (seed, meter, budget)
        assert budget["max_cost"] is None or meter.cost <= budget["max_cost"], (seed, meter, budget)
        spending = AgentState.fold(events).spending
        assert meter.tokens <= spending.tokens
        assert meter.cost <= spending.cost
        assert end_of(events).reason in (
            "token_limit",
            "cost_limit",
            "model_response_invalid",
            "llm_unavailable",
            None,
        )
    return sum(deaths for _, deaths in outcomes)


@pytest.mark.parametrize("block", range(10))
async def test_sixteen_runs_at_once_and_any_number_of_kills_never_spend_more_than_they_may(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty seeds a block, and so five hundred times in all."""
    monkeypatch.setattr(attempts, "BASE_S", 0.0)
    deaths = [await sixteen_runs(seed) for seed in range(block * 50, block * 50 + 50)]
    assert sum(deaths) > 50


async def test_the_provider_of_that_test_would_overspend_without_the_reservations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "BASE_S", 0.0)
    monkeypatch.setattr(Spending, "give_up", lambda *given, **may: None)
    with pytest.raises(AssertionError):
        await asyncio.gather(*[sixteen_runs(seed) for seed in range(50)])


async def test_what_an_unknown_failure_may_have_taken_stays_spent_and_is_in_the_journal() -> None:
    agent = Agent(NamedModel("one", RuntimeError("nobody knows")), tools=[], max_tokens=50_000)
    events = [event async for event in agent.stream("go")]
    assert [type(event) for event in events] == [ModelRequested, ModelFailed, RunFinished]
    state = AgentState.fold(events)
    assert state.spending.tokens == reservations(events)[0].tokens
    assert state.result is not None
    assert state.result.reason == "model_failed"
