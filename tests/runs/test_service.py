from __future__ import annotations

import logging
import uuid

import pytest
from fakes import FakeTool, ScriptedModel, answer, call

from app.agent.core import Agent
from app.errors import InvalidGoalError
from app.runs.ids import new_run_id
from app.runs.service import RunService


async def test_a_finished_run_has_an_id_and_the_agents_result(caplog: pytest.LogCaptureFixture) -> None:
    service = RunService(Agent(ScriptedModel(call("probe"), answer("end")), [FakeTool()]), new_id=lambda: "run-1")
    with caplog.at_level(logging.INFO):
        run = await service.run_task("go", None, None)
    assert (run.run_id, run.status, run.output, len(run.trace)) == ("run-1", "success", "end", 1)
    (line,) = [record for record in caplog.records if record.name.endswith("runs.service")]
    assert vars(line)["fields"]["run_id"] == "run-1"
    assert (vars(line)["fields"]["status"], vars(line)["fields"]["steps"]) == ("success", 1)


async def test_what_cannot_be_carried_out_is_refused() -> None:
    with pytest.raises(InvalidGoalError):
        await RunService(Agent(tools=[])).run_task(" ", None, None)


def test_ids_are_version_7_uuids_that_sort_by_time() -> None:
    ids = [uuid.UUID(new_run_id()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    milliseconds = [made.int >> 80 for made in ids]
    assert milliseconds == sorted(milliseconds)
