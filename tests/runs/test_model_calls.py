"""Calls of a model that are broken off: none is forgotten, none is counted that was never made."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from durable_runs import House
from fake_models import NamedModel
from fakes import answer

from app.agent import loop as loop_module
from app.agent.core import Agent
from app.agent.events import ModelFailed
from app.errors import LLMUnavailableError
from app.llm.interface import LLMRequest, LLMResponse, Usage
from app.runs.models import RunKey
from app.runs.usage import Used
from app.storage.database import Database

ONE_UNKNOWN = Used(calls=1, unpriced_calls=1)


class Hanging(NamedModel):
    """It hangs the first time, and answers from then on."""

    def __init__(self, name: str = "openai:x") -> None:
        super().__init__(name, answer("done"))
        self.asked = asyncio.Event()
        self.limits: list[int | None] = []

    async def complete(self, request: LLMRequest) -> LLMResponse:
        self.limits.append(request.max_output_tokens)
        if not self.asked.is_set():
            self.asked.set()
            await asyncio.get_running_loop().create_future()
        return LLMResponse("done", usage=Usage(100, 10), model="x-2026-01-01", finish_reason="stop")


async def failures(house: House, key: RunKey) -> list[tuple[str, bool]]:
    return [(event.code, event.may_be_paid) for event in await house.events(key) if isinstance(event, ModelFailed)]


async def under_way(house: House, model: Hanging, **options: Any) -> tuple[RunKey, asyncio.Task[Any]]:
    key = await house.submit(**options)
    task = asyncio.create_task(house.execute(key))
    await asyncio.wait_for(model.asked.wait(), 5)
    return key, task


async def test_a_call_that_the_time_limit_breaks_off_counts(database: Database) -> None:
    async with House(database, Agent(Hanging(), max_seconds=0.05)) as house:
        key = await house.submit(max_tokens=50_000)
        await house.execute(key)
        assert await failures(house, key) == [("interrupted", True)]
        run = await house.run(key)
        assert (run.reason, run.used) == ("time_limit", ONE_UNKNOWN)


async def test_a_call_that_a_cancellation_breaks_off_counts(database: Database) -> None:
    model = Hanging()
    async with House(database, Agent(model)) as house:
        key, task = await under_way(house, model)
        await house.service.cancel(key.run_id)
        await task
        assert await failures(house, key) == [("interrupted", True)]
        run = await house.run(key)
        assert (run.status, run.used) == ("cancelled", ONE_UNKNOWN)


async def test_a_call_that_a_stop_breaks_off_counts_and_is_made_again(database: Database) -> None:
    model = Hanging()
    async with House(database, Agent(model)) as house:
        key, task = await under_way(house, model)
        house.executor.driver.stop_now()
        await task
    async with House(database, Agent(model), owner="you") as house:
        await house.execute(key)
        assert await failures(house, key) == [("interrupted", True)]
        run = await house.run(key)
        assert run.status == "success"
        assert run.used == Used(calls=2, input_tokens=100, output_tokens=10, unpriced_calls=2)


async def test_a_call_that_was_about_to_be_made_when_the_process_stopped_costs_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NamedModel("openai:x", LLMUnavailableError("Down.", may_be_paid=False), answer("never asked for"))
    async with House(database, Agent(model)) as house:

        async def stop_in_the_pause(_seconds: float) -> None:
            house.executor.driver.stop_gently()

        monkeypatch.setattr(loop_module, "asyncio", SimpleNamespace(sleep=stop_in_the_pause))
        key = await house.submit(max_tokens=20_000)
        await house.execute(key)
        assert await failures(house, key) == [("llm_unavailable", False), ("interrupted", False)]
    monkeypatch.undo()
    async with House(database, Agent(NamedModel("openai:x", answer("done"))), owner="you") as house:
        await house.execute(key)
        run = await house.run(key)
        assert (run.status, run.output) == ("success", "done")


async def test_a_budget_and_a_model_that_are_new_at_the_restart_hold_from_there_on(database: Database) -> None:
    model = Hanging()
    async with House(database, Agent(model)) as house:
        key, task = await under_way(house, model)
        house.executor.driver.stop_now()
        await task
    other = Hanging("anthropic:other")
    other.asked.set()
    async with House(database, Agent(other, max_tokens=500), owner="you") as house:
        await house.execute(key)
        assert (other.limits, (await house.run(key)).reason) == ([], "token_limit")
