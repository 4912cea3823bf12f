from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
from fake_models import NamedModel, end_of, events_of, resumed
from fakes import FakeTool, ScriptedModel, answer, call, kinds
from msgspec.structs import replace

from app.agent import attempts
from app.agent.attempts import BASE_S, INTERRUPTED, LONGEST_S, PATIENCE_S, WORTH_RETRYING, Attempt, next_attempt
from app.agent.core import Agent
from app.agent.events import Event, ModelDecided, ModelFailed, ModelRequested, RunFinished
from app.agent.journal import ListJournal
from app.agent.state import AgentState
from app.errors import (
    LLMAuthError,
    LLMBadResponseError,
    LLMContextOverflowError,
    LLMError,
    LLMRateLimitedError,
    LLMRefusedError,
    LLMTimeoutError,
    LLMUnavailableError,
)
from app.llm.interface import LLMResponse

AB = ["a", "b"]


def failure(code: str = "llm_unavailable", retry_after_s: float | None = None) -> ModelFailed:
    return ModelFailed(1, "a", code, "It broke.", may_be_paid=False, retry_after_s=retry_after_s)


FAIL, INTERRUPT = failure(), failure(INTERRUPTED)


# the policy


@pytest.mark.parametrize(
    ("failures", "line_up", "answering", "retries", "index"),
    [
        ([], ["a"], None, 2, 0),
        ([], AB, "b", 2, 1),
        ([], AB, "gone", 2, 0),
        ([FAIL], ["a"], None, 2, 0),
        ([FAIL] * 2, ["a"], None, 2, 0),
        ([FAIL] * 3, ["a"], None, 2, None),
        ([FAIL], ["a"], None, 0, None),
        ([FAIL], AB, None, 0, 1),
        ([FAIL] * 2, AB, None, 0, None),
        ([FAIL] * 3, AB, None, 2, 1),
        ([FAIL] * 5, AB, None, 2, 1),
        ([FAIL] * 6, AB, None, 2, None),
        ([FAIL] * 3, AB, "b", 2, 0),  # the one before it has its turn after it
        ([FAIL] * 6, AB, "b", 2, None),
        ([FAIL] * 2, ["a", "b", "c"], "b", 0, 0),
        ([INTERRUPT] * 9, ["a"], None, 0, 0),
        ([FAIL, INTERRUPT, FAIL], ["a"], None, 2, 0),
        ([FAIL, FAIL, INTERRUPT, FAIL], ["a"], None, 2, None),
        ([failure(retry_after_s=PATIENCE_S)], AB, None, 2, 0),
        ([failure(retry_after_s=PATIENCE_S + 1)], AB, None, 2, 1),
        ([failure(retry_after_s=PATIENCE_S + 1)], ["a"], None, 2, 0),
        ([failure(retry_after_s=PATIENCE_S + 1)] * 2, AB, None, 2, 1),
    ],
)
def test_who_is_asked_next(
    failures: list[ModelFailed], line_up: list[str], answering: str | None, retries: int, index: int | None
) -> None:
    told: list[ModelFailed] = []
    for failed in failures:  # each is of the model that was to be asked then
        before = next_attempt(told, line_up, answering, retries)
        told.append(replace(failed, model=line_up[0 if before is None else before.index]))
    attempt = next_attempt(told, line_up, answering, retries)
    assert (None if attempt is None else attempt.index) == index


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [
        (LLMRateLimitedError, True),
        (LLMUnavailableError, True),
        (LLMTimeoutError, True),
        (LLMBadResponseError, True),
        (LLMAuthError, False),
        (LLMRefusedError, False),
        (LLMContextOverflowError, False),
        (LLMError, False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: type[LLMError], is_worth_it: bool) -> None:
    assert (error.code in WORTH_RETRYING) is is_worth_it
    assert (next_attempt([failure(error.code)], AB, None, 9) is not None) is is_worth_it
    assert (next_attempt([FAIL, failure(error.code)], AB, None, 1) is not None) is is_worth_it


def test_the_pause_doubles_up_to_a_limit_and_is_shortened_by_chance() -> None:
    for tries in range(1, 10):
        whole = min(LONGEST_S, BASE_S * 2 ** (tries - 1))
        pauses = [next_attempt([FAIL] * tries, ["a"], None, 99) for _ in range(200)]
        seconds = [pause.delay_s for pause in pauses if pause is not None]
        assert len(seconds) == 200
        assert whole * 0.5 <= min(seconds) < whole * 0.6
        assert whole * 0.9 < max(seconds) <= whole


def test_the_first_try_of_each_model_is_not_waited_for() -> None:
    assert next_attempt([], AB, None, 2) == Attempt(0, 0.0)
    assert next_attempt([FAIL] * 3, AB, None, 2) == Attempt(1, 0.0)
    assert next_attempt([INTERRUPT], AB, None, 2) == Attempt(0, 0.0)


def test_a_provider_that_says_when_to_come_back_is_believed() -> None:
    late = next_attempt([failure(retry_after_s=90.0)], ["a"], None, 2)
    assert late is not None
    assert 90.0 <= late.delay_s <= 99.0
    soon = next_attempt([failure(retry_after_s=0.001)], ["a"], None, 2)
    assert soon is not None
    assert soon.delay_s >= BASE_S / 2


def test_a_pause_that_does_not_fit_the_time_is_not_made_if_there_is_another_model() -> None:
    busy = failure(retry_after_s=4.0)
    assert next_attempt([busy], AB, None, 2, left_s=3.0) == Attempt(1, 0.0)
    alone = next_attempt([busy], ["a"], None, 2, left_s=3.0)
    assert alone is not None
    assert alone.delay_s >= 4.0
    other = replace(FAIL, model="b")
    assert next_attempt([busy, other, other], AB, None, 2) == Attempt(1, pytest.approx(BASE_S * 1.5, rel=0.5))


# the loop


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be of a millisecond."""
    monkeypatch.setattr(attempts, "BASE_S", 0.001)


def unavailable(**fields: Any) -> LLMUnavailableError:
    return LLMUnavailableError("It is down.", **fields)


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_fails_is_asked_again_and_each_failure_is_recorded() -> None:
    model = NamedModel("a", unavailable(), LLMTimeoutError("Slow.", may_be_paid=False), answer("four"))
    events = await events_of(Agent(model, []))
    assert kinds(events) == [
        "RunStarted",
        "ModelRequested",
        "ModelFailed",
        "ModelRequested",
        "ModelFailed",
        "ModelRequested",
        "ModelDecided",
        "RunFinished",
    ]
    assert events[2] == ModelFailed(1, "a", "llm_unavailable", "It is down.", may_be_paid=True)
    assert events[4] == ModelFailed(1, "a", "llm_timeout", "Slow.", may_be_paid=False)
    assert [event.turn for event in events if isinstance(event, ModelRequested)] == [1, 1, 1]
    assert end_of(events) == RunFinished("success", "four")


@pytest.mark.usefixtures("hasty")
async def test_a_fallback_answers_and_the_trace_says_so_and_it_is_asked_next_time_too() -> None:
    first = NamedModel("a", unavailable())
    second = NamedModel("b", call("probe"), LLMResponse("done", model="b-2026"))
    events = await events_of(Agent(first, [FakeTool()], fallbacks=[second], max_retries=1))
    assert [event.model for event in events if isinstance(event, ModelRequested)] == ["a", "a", "b", "b"]
    assert [event.model for event in events if isinstance(event, ModelFailed)] == ["a", "a"]
    assert [event.model for event in events if isinstance(event, ModelDecided)] == [None, "b-2026"]
    assert (len(first.requests), len(second.requests)) == (2, 2)


@pytest.mark.usefixtures("hasty")
async def test_when_all_have_failed_the_run_ends_with_the_last_ones_code() -> None:
    models = [NamedModel("a", unavailable()), NamedModel("b", LLMRateLimitedError("Too much."))]
    events = await events_of(Agent(models[0], [], fallbacks=models[1:], max_retries=1))
    assert [len(model.requests) for model in models] == [2, 2]
    assert end_of(events) == RunFinished("error", "The language model failed. Too much.", LLMRateLimitedError.code)


@pytest.mark.parametrize("error", [LLMRefusedError("No."), LLMAuthError("No."), LLMError("No.")])
async def test_who_refuses_is_not_asked_again_and_nobody_else_is(error: LLMError) -> None:
    first, second = NamedModel("a", error), NamedModel("b", answer())
    events = await events_of(Agent(first, [], fallbacks=[second]))
    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert end_of(events).reason == error.code


@pytest.mark.usefixtures("hasty")
async def test_clients_of_one_class_without_a_name_are_still_two() -> None:
    first, second = ScriptedModel(unavailable()), ScriptedModel(answer("from the second"))
    events = await events_of(Agent(first, [], fallbacks=[second], max_retries=0))
    asked = [event.model for event in events if isinstance(event, ModelRequested)]
    assert asked == ["ScriptedModel", "ScriptedModel 2"]
    assert end_of(events).output == "from the second"


@pytest.mark.usefixtures("hasty")
async def test_the_same_client_is_no_fallback_of_itself() -> None:
    model = NamedModel("a", unavailable())
    await events_of(Agent(model, [], fallbacks=[model], max_retries=0))
    assert len(model.requests) == 1


async def test_what_the_provider_asks_for_is_waited_for() -> None:
    model = NamedModel("a", LLMRateLimitedError("Later.", retry_after_s=0.6), answer())
    started = monotonic()
    events = await events_of(Agent(model, []))
    assert end_of(events).status == "success"
    assert monotonic() - started >= 0.6


async def test_a_pause_longer_than_what_is_left_ends_the_run_at_once_with_the_failures_code() -> None:
    model = NamedModel("a", LLMRateLimitedError("Later.", retry_after_s=60.0))
    started = monotonic()
    events = await events_of(Agent(model, [], max_seconds=20.0))
    assert monotonic() - started < 10
    assert len(model.requests) == 1
    assert end_of(events) == RunFinished("error", "The language model failed. Later.", "llm_rate_limited")


async def test_after_a_crash_too_the_failure_is_named_and_not_the_crash() -> None:
    agent = Agent(NamedModel("a", answer()), [], max_seconds=20.0)
    events = [
        agent.opening("go"),
        ModelRequested(1, "a"),
        failure("llm_rate_limited", 60.0),
        ModelRequested(1, "a"),
        INTERRUPT,
    ]
    assert end_of(await resumed(agent, events)).reason == "llm_rate_limited"


async def test_a_cancellation_ends_the_pause() -> None:
    model = NamedModel("a", LLMRateLimitedError("Later.", retry_after_s=60.0), answer())
    failed = asyncio.Event()

    class Noting(ListJournal):
        def append(self, event: Event) -> Event:
            if isinstance(event, ModelFailed):
                failed.set()
            return super().append(event)

    journal, agent = Noting(), Agent(model, [])

    async def run() -> None:
        async for _ in agent.advance(AgentState(), journal, agent.opening("go")):
            pass

    task = asyncio.create_task(run())
    await asyncio.wait_for(failed.wait(), 5)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert kinds(journal.events)[-1] == "ModelFailed"
    assert len(model.requests) == 1


async def test_one_call_may_take_less_time_than_the_run() -> None:
    class Slow(NamedModel):
        async def complete(self, request: Any) -> Any:
            self.requests.append(request)
            await asyncio.sleep(60)

    slow = Slow("a")
    agent = Agent(slow, [], fallbacks=[NamedModel("b", answer("quick"))], call_seconds=0.02, max_retries=0)
    events = await events_of(agent)
    assert isinstance(events[2], ModelFailed)
    assert (events[2].code, end_of(events).output) == ("llm_timeout", "quick")


async def test_a_paid_fallback_of_a_free_model_is_asked_only_when_that_is_durable() -> None:
    barriers: list[str] = []

    class Barriers(ListJournal):
        async def commit(self) -> None:
            barriers.append(type(self.events[-1]).__name__)

    class Paid(NamedModel):
        async def complete(self, request: Any) -> Any:
            assert barriers[-1] == "ModelRequested"
            barriers.clear()
            return await super().complete(request)

    free = ScriptedModel(unavailable())
    free.is_free = True  # type: ignore[misc]
    agent = Agent(free, [], fallbacks=[Paid("b", answer())], max_retries=0, max_tokens=100_000)
    state = AgentState()
    loop = agent._loop(state, Barriers(), agent.opening("go"))
    while state.result is None:
        await loop.next_event()
    assert state.result.status == "success"
    assert barriers == ["ModelDecided", "RunFinished"]


class _LyingError(LLMUnavailableError):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LLMUnavailableError("a\0b \ud800"), "a\ufffdb ?"),
        (LLMUnavailableError("x" * 1_000_000), "x" * 2_000),
        (_LyingError("odd"), "_LyingError"),
    ],
)
async def test_what_a_client_says_of_its_failure_can_be_stored(error: LLMError, reason: str) -> None:
    events = await events_of(Agent(NamedModel("a", error), [], max_retries=0))
    assert isinstance(events[2], ModelFailed)
    assert events[2].reason == reason


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -5.0, "soon", 10**400])
async def test_a_time_to_come_back_that_is_none_is_as_if_nothing_was_said(seconds: Any) -> None:
    events = await events_of(Agent(NamedModel("a", unavailable(retry_after_s=seconds)), [], max_retries=0))
    assert isinstance(events[2], ModelFailed)
    assert events[2].retry_after_s is None
