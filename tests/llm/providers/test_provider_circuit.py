from __future__ import annotations

import asyncio
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

    def __init__(self, provider: str = "openai") -> None:
        self.card = ModelCard(f"{provider}:m", provider)
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
    return Circuits(lambda provider: Circuit(provider, failures_to_open=3, cool_down_s=10, clock=clock))


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
    assert (caught.value.retry_after_s, caught.value.may_be_paid) == (6.0, False)
    assert inner.asked == 3


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


async def test_clients_of_one_provider_share_a_circuit_and_others_do_not(circuits: Circuits) -> None:
    first, second, other = Client(), Client(), Client("anthropic")
    first.error = OUT
    await fail(circuits.guard(first), 3)
    await fail(circuits.guard(second), 1)
    assert second.asked == 0
    assert (await circuits.guard(other).complete(REQUEST)).content == "Four."


async def test_a_broken_answer_is_no_outage(circuits: Circuits) -> None:
    inner = Client()
    inner.error = LLMBadResponseError("Broken.")
    client = circuits.guard(inner)
    await fail(client, 5)
    assert inner.asked == 5
    assert client.card is inner.card
