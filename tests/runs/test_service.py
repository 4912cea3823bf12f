from __future__ import annotations

import uuid

import pytest
from fakes import FakeTool, ScriptedModel, answer, call

from app.agent.core import Agent
from app.errors import InvalidGoalError
from app.runs.ids import new_run_id
from app.runs.models import FinishedRun
from app.runs.service import RunService


async def test_a_finished_run_has_an_id_and_the_agents_result_and_is_told_of() -> None:
    told: list[tuple[FinishedRun, float]] = []
    agent = Agent(ScriptedModel(call("probe"), answer("end")), [FakeTool()])
    service = RunService(agent, lambda run, seconds: told.append((run, seconds)), new_id=lambda: "run-1")
    run = await service.run_task("go", None, None)
    assert (run.run_id, run.status, run.output, len(run.trace)) == ("run-1", "success", "end", 1)
    assert told[0][0] is run
    assert told[0][1] > 0


async def test_nobody_has_to_be_told() -> None:
    assert (await RunService(Agent(ScriptedModel(answer("end")), [])).run_task("go", None, None)).output == "end"


async def test_what_cannot_be_carried_out_is_refused() -> None:
    with pytest.raises(InvalidGoalError):
        await RunService(Agent(tools=[])).run_task(" ", None, None)


def test_ids_are_version_7_uuids_that_sort_by_time() -> None:
    ids = [uuid.UUID(new_run_id()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    milliseconds = [made.int >> 80 for made in ids]
    assert milliseconds == sorted(milliseconds)
