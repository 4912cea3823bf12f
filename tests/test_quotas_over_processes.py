"""Quotas in whole services, as they are wired: over several processes, on workers and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeTool, ScriptedModel, call

from app.auth.principal import Limits, Principal
from app.bootstrap import build_services
from app.bootstrap.services import Services
from app.config import Settings
from app.errors import QuotaExceededError
from app.jsonvalue import JsonObject
from app.llm.interface import LLMResponse
from app.permissions import Permissions
from app.runs.models import FinishedRun, Run, RunRequest
from app.tools.base import tool_registry

GO = RunRequest("Calculate 6*7")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings that name each database."""
    if request.param == "sqlite":
        return {"data_dir": request.getfixturevalue("data_dir")}
    return {"data_dir": tmp_path, "database_url": request.getfixturevalue("postgres_url")}


@asynccontextmanager
async def serving(place: dict[str, Any], **options: Any) -> AsyncIterator[Services]:
    build: dict[str, Any] = {name: options.pop(name) for name in ("executes", "llm_client") if name in options}
    services = build_services(Settings(**place, **options), **build)
    await services.start()
    try:
        yield services
    finally:
        await services.stop(1)


async def line_of(services: Services, **limits: Any) -> list[Principal]:
    """Return who shows a key with these limits, its child and its grandchild."""
    keys = services.access.keys
    issued = [await keys.create("root", Permissions(), limits=Limits(**limits))]
    authenticator = services.access.authenticator
    assert authenticator is not None
    line = [await authenticator.authenticate(issued[0].written)]
    for name in ("child", "grandchild"):
        made = await keys.create_child(line[-1], name, ["*"])
        line.append(await authenticator.authenticate(made.written))
    return line


async def admitted(services: Services, who: Principal, runs: int) -> list[Run]:
    answers = await asyncio.gather(
        *(services.runs.submit(GO, who=who) for _ in range(runs)), return_exceptions=True
    )
    assert all(isinstance(answer, Run | QuotaExceededError) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Run)]


async def test_two_processes_that_are_asked_at_once_let_a_line_of_keys_have_its_runs_and_no_more(
    postgres_url: str, tmp_path: Path
) -> None:
    place = {"data_dir": tmp_path, "database_url": postgres_url}
    async with serving(place) as one, serving(place) as other:
        line = await line_of(one, runs=2)
        made = await asyncio.gather(
            admitted(one, line[0], 7), admitted(other, line[1], 7), admitted(one, line[2], 6)
        )
        runs = [run for of_one in made for run in of_one]
        assert len(runs) == 2
        with pytest.raises(QuotaExceededError):
            await other.runs.run_task("Calculate 6*7", who=line[2])
        assert len((await one.runs.page()).runs) == 2
        async with serving(place, executes=True) as worker:
            for run in runs:
                assert (await worker.runs.wait(run.run_id, 20)).status == "success"
        assert len(await admitted(other, line[1], 5)) == 2


async def test_a_line_of_keys_has_its_runs_also_after_a_restart(place: dict[str, Any]) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def hang(_: JsonObject) -> JsonObject:
        begun.set()
        await released.wait()
        return {}

    tool_registry.register(FakeTool(hang, name="hang", effect="pure"))
    async with serving(place, executes=True, llm_client=ScriptedModel(call("hang"))) as services:
        line = await line_of(services, runs=1)
        run = await services.runs.submit(RunRequest("go"), who=line[2])
        await begun.wait()
        for who in line:
            with pytest.raises(QuotaExceededError, match="has 1 unfinished runs"):
                await asyncio.wait_for(services.runs.run_task("go", who=who), 10)
    async with serving(place, executes=True, llm_client=ScriptedModel(LLMResponse("done"))) as services:
        for who in line:
            assert not await admitted(services, who, 1)
        released.set()
        done = await services.runs.wait(run.run_id, 20)
        assert done.status == "success", done
        assert len(await admitted(services, line[0], 3)) == 1


async def test_steps_of_a_line_of_keys_count_also_on_a_worker_and_after_a_restart(place: dict[str, Any]) -> None:
    is_sqlite = "database_url" not in place
    async with serving(place) as services:
        line = await line_of(services, steps_per_day=2, runs=1)
        first = await services.runs.submit(GO, who=line[2])
        if not is_sqlite:
            async with serving(place, executes=True):
                assert (await services.runs.wait(first.run_id, 20)).status == "success"
        assert (await services.runs.wait(first.run_id, 20)).status == "success"
    async with serving(place, executes=True) as services:
        assert (await services.runs.run_task("Calculate 6*8", who=line[1])).status == "success"
    async with serving(place) as services:
        for who in line:
            with pytest.raises(QuotaExceededError, match=r"steps of this (key|parent|parent-2) for today"):
                await services.runs.submit(GO, who=who)


async def test_one_request_after_another_gets_what_is_left_and_no_more(place: dict[str, Any]) -> None:
    async with serving(place, executes=True) as services:
        ann = Principal("key:ann", limits=Limits(steps_per_day=3))
        for left in (2, 1):
            run = await services.runs.run_task("Calculate 6*7 and calculate 6*8", who=ann)
            assert len(run.trace) == left
        with pytest.raises(QuotaExceededError, match="steps of this key"):
            await services.runs.run_task("Calculate 6*7", who=ann)


async def test_many_keys_of_a_tenant_one_after_another_get_what_it_has_left_and_no_more(
    place: dict[str, Any],
) -> None:
    async with serving(place, executes=True, tenant_steps_per_day=5) as services:
        askers = [Principal(f"key:{number}") for number in range(8)]
        for who in askers:  # each of them without a step, so that what was used is known for each
            await services.runs.run_task("hello", who=who)
        steps = []
        for who in askers[:3]:
            run = await services.runs.run_task("Calculate 6*7 and calculate 6*8", who=who)
            steps.append(len(run.trace))
        assert steps == [2, 2, 1]
        for who in askers:
            with pytest.raises(QuotaExceededError, match="steps of this tenant"):
                await services.runs.run_task("Calculate 6*7", who=who)


async def test_runs_side_by_side_use_each_no_more_than_was_left_when_it_began(place: dict[str, Any]) -> None:
    async with serving(place, executes=True) as services:
        ann = Principal("key:ann", limits=Limits(steps_per_day=3))
        goal = "Calculate 1+1, calculate 2+2, calculate 3+3, calculate 4+4 and calculate 5+5"
        asked = (services.runs.run_task(goal, who=ann) for _ in range(8))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, FinishedRun | QuotaExceededError) for answer in answers), answers
        assert {len(answer.trace) for answer in answers if isinstance(answer, FinishedRun)} == {3}
        with pytest.raises(QuotaExceededError):
            await services.runs.run_task("Calculate 6*7", who=ann)
