from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from app.errors import (
    LLMBadResponseError,
    LLMRateLimitedError,
    LLMTimeoutError,
    LLMUnavailableError,
    ModelFailedError,
    ModelResponseError,
)
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, TextDelta
from app.llm.providers.circuit import Circuit, CircuitClient, Circuits

REQUEST = LLMRequest("", [], ())
OUT = LLMUnavailableError("It is down.")


class Client:
    """Says `Four.`, or raises what it is told to; counts how often it was asked."""

    def __init__(self, name: str = "openai:big") -> None:
        self.card = ModelCard(name, name.partition(":")[0])
        self.error: Exception | None = None
        self.asked = 0
        self.closed = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def complete(self, request: LLMRequest) -> LLMResponse:
        self.asked += 1
        await self.goes_on.wait()
        if self.error is not None:
            raise self.error
        return LLMResponse("Four.")

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        try:
            yield TextDelta("Fo")
            yield await self.complete(request)
        finally:
            self.closed += 1


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    return Circuits(lambda name: Circuit(name, failures_to_open=3, outage_s=0, cool_down_s=10, clock=clock))


async def fail(client: CircuitClient, times: int, kind: type[Exception] = ModelFailedError) -> None:
    for _ in range(times):
        with pytest.raises(kind):
            await client.complete(REQUEST)


@pytest.mark.parametrize("error", [OUT, LLMTimeoutError("It is slow.")])
async def test_after_outages_in_a_row_the_provider_is_not_asked(
    circuits: Circuits, clock: Clock, error: Exception
) -> None:
    inner = Client()
    inner.error = error
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 4
    with pytest.raises(LLMUnavailableError, match="was not asked") as caught:
        await client.complete(REQUEST)
    assert (caught.value.retry_after_s, caught.value.may_be_paid) == (None, False)
    assert inner.asked == 3


async def test_a_refusal_tells_the_last_real_reason_in_a_line(circuits: Circuits) -> None:
    inner = Client()
    client = circuits.guard(inner)
    for reason in (
        "openai broke off the connection.",
        "openai answered 500.",
        "openai answered 502: " + "x" * 200,
    ):
        inner.error = LLMUnavailableError(reason)
        await fail(client, 1)
    for _ in range(2):  # a refusal is no reason
        with pytest.raises(LLMUnavailableError) as caught:
            await client.complete(REQUEST)
        said = "openai:big was not asked: it failed 3 times in a row, last: openai answered 502: xxx"
        assert str(caught.value).startswith(said)
        assert len(str(caught.value)) == 200


async def test_those_that_lose_the_try_come_back_soon(circuits: Circuits, clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 10
    inner.goes_on.clear()
    probe = asyncio.create_task(client.complete(REQUEST))
    await asyncio.sleep(0)
    with pytest.raises(LLMUnavailableError, match="was not asked") as caught:
        await client.complete(REQUEST)
    assert caught.value.retry_after_s is None
    inner.goes_on.set()
    with pytest.raises(LLMUnavailableError, match="It is down"):
        await probe


async def test_many_failures_at_once_are_no_outage_until_it_lasts(clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = Circuits(lambda name: Circuit(name, failures_to_open=3, outage_s=2, clock=clock)).guard(inner)
    await fail(client, 10)
    clock.now += 1.9
    await fail(client, 1)
    assert inner.asked == 11
    clock.now += 0.1
    await fail(client, 2)
    assert inner.asked == 12


async def test_the_time_that_calls_wait_in_vain_counts_as_outage(clock: Clock) -> None:
    inner = Client()
    inner.error = LLMTimeoutError("It is slow.")
    inner.goes_on.clear()
    client = Circuits(lambda name: Circuit(name, failures_to_open=3, outage_s=2, clock=clock)).guard(inner)
    calls = [asyncio.create_task(client.complete(REQUEST)) for _ in range(3)]
    await asyncio.sleep(0)
    clock.now += 120
    inner.goes_on.set()
    await asyncio.gather(*calls, return_exceptions=True)
    await fail(client, 1, LLMUnavailableError)
    assert inner.asked == 3


async def test_the_log_says_once_that_it_opens_and_that_it_closes(
    circuits: Circuits, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inner = Client()
    inner.error = LLMUnavailableError("openai answered 500: sk-secret")
    client = circuits.guard(inner)
    await fail(client, 5)
    clock.now += 10
    await fail(client, 1)
    inner.error = None
    clock.now += 10
    await client.complete(REQUEST)
    await client.complete(REQUEST)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "openai:big is not asked for 10 s: it failed 3 times"),
        ("INFO", "openai:big answers again"),
    ]


async def test_a_call_from_before_that_fails_late_does_not_put_off_the_try(
    circuits: Circuits, clock: Clock
) -> None:
    late, inner = Client(), Client()
    late.error = inner.error = OUT
    late.goes_on.clear()
    waiting = asyncio.create_task(circuits.guard(late).complete(REQUEST))
    await asyncio.sleep(0)
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 9
    late.goes_on.set()
    with pytest.raises(LLMUnavailableError):
        await waiting
    clock.now += 1
    inner.error = None
    assert (await client.complete(REQUEST)).content == "Four."


async def test_it_refuses_streams_too(circuits: Circuits) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    for _ in range(3):
        with pytest.raises(LLMUnavailableError):
            [piece async for piece in client.stream(REQUEST)]
    with pytest.raises(LLMUnavailableError, match="was not asked"):
        [piece async for piece in client.stream(REQUEST)]
    assert (inner.asked, inner.closed) == (3, 3)


async def test_an_answer_in_between_begins_the_count_again(circuits: Circuits) -> None:
    inner = Client()
    client = circuits.guard(inner)
    for error in (
        OUT,
        OUT,
        None,
        OUT,
        OUT,
        LLMRateLimitedError("Busy."),
        OUT,
        OUT,
        ModelResponseError("?"),
        OUT,
        OUT,
    ):
        inner.error = error
        if error is None:
            await client.complete(REQUEST)
        else:
            await fail(client, 1, type(error))
    inner.error = None
    assert (await client.complete(REQUEST)).content == "Four."


async def test_after_the_cool_down_one_call_tries_and_closes_it(circuits: Circuits, clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 10
    inner.error = None
    inner.goes_on.clear()
    probe = asyncio.create_task(client.complete(REQUEST))
    await asyncio.sleep(0)
    await fail(client, 2)  # while it tries, the others are refused
    assert inner.asked == 4
    inner.goes_on.set()
    assert (await probe).content == "Four."
    assert (await client.complete(REQUEST)).content == "Four."


async def test_a_try_that_fails_opens_it_for_another_cool_down(circuits: Circuits, clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 10
    await fail(client, 1)
    clock.now += 9
    await fail(client, 1)
    assert inner.asked == 4
    clock.now += 1
    await fail(client, 1)
    assert inner.asked == 5


async def test_a_try_that_is_cancelled_leaves_room_for_the_next(circuits: Circuits, clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 10
    inner.goes_on.clear()
    probe = asyncio.create_task(client.complete(REQUEST))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    pieces = client.stream(REQUEST)
    assert await anext(pieces) == TextDelta("Fo")
    await pieces.aclose()
    inner.error = None
    inner.goes_on.set()
    assert (await client.complete(REQUEST)).content == "Four."


async def test_a_listener_who_leaves_with_the_response_has_seen_it_work(circuits: Circuits, clock: Clock) -> None:
    inner = Client()
    inner.error = OUT
    client = circuits.guard(inner)
    await fail(client, 3)
    clock.now += 10
    inner.error = None
    pieces = client.stream(REQUEST)
    assert [await anext(pieces), await anext(pieces)] == [TextDelta("Fo"), LLMResponse("Four.")]
    await pieces.aclose()
    inner.error = OUT
    await fail(client, 2)
    assert inner.asked == 6  # the count had begun again


async def test_each_model_has_a_circuit_and_its_clients_share_it(circuits: Circuits) -> None:
    first, second, fallback = Client(), Client(), Client("openai:small")
    first.error = OUT
    await fail(circuits.guard(first), 3)
    await fail(circuits.guard(second), 1)
    assert second.asked == 0
    assert (await circuits.guard(fallback).complete(REQUEST)).content == "Four."


async def test_a_broken_answer_is_no_outage(circuits: Circuits) -> None:
    inner = Client()
    inner.error = LLMBadResponseError("Broken.")
    client = circuits.guard(inner)
    await fail(client, 5)
    assert inner.asked == 5
    assert client.card is inner.card
