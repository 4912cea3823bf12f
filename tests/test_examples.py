"""The examples run as a newcomer runs them, and show what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from app.api.errors import PROBLEM_TYPE
from app.api.models import FieldProblem, Problem, RunTaskRequest, RunTaskResponse, StepModel
from app.api.run_models import RunModel
from app.config import Settings
from app.errors import IdempotencyKeyReusedError
from app.runs.models import RunStatus

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

LONGEST_ANSWER_S = 600
"""How long /run-task waits for a worker, then it answers 202 (docs/runs.md)."""

NO_ANSWER = "in_doubt: timeout: send_mail did not answer within 0.2 s. Whether it had its effect is unknown."

ESSENTIAL = {
    "example_math.py": [
        "Goal:    Calculate the result of (100 + 50) * 2",
        "Step 1:  math {'expression': '(100 + 50) * 2'} -> {'result': 300, 'expression': '(100 + 50) * 2'}",
        "Answer:  Calculation result: 300 (from (100 + 50) * 2)  [success]",
        "Answer:  Calculation result: 0.3 (from 0.1 + 0.2)  [success]",
        "Answer:  The math tool failed: Division by zero has no result.  [error]",
    ],
    "example_web_search.py": [
        "Step 1:  web_search {'query': 'Python FastAPI best practices'}, source: offline-index",
        "           https://github.com/zhanymkanov/fastapi-best-practices",
        "Answer:  Found 3 search results for 'Python FastAPI best practices'  [success]",
    ],
    "example_governance.py": [
        "Answer:  Note 1 added to PROP-2025-001: Legal review completed  [success]",
        "         -> {'proposal_id': 'PROP-2025-001', 'notes': ['Legal review completed', '108']}",
        "Goal:    Add note to PROP-25-1: this id is not one",
    ],
    "example_custom_tool.py": [
        "Step 1:  treasury_balance {'account': 'marketing'} -> unknown_account: There is no account 'marketing'.",
        "Step 2:  treasury_balance {'account': 'grants'} -> {'account': 'grants', 'balance': 45500}",
        "Answer:  There is no marketing account; grants holds 45500 USDC.  [success]",
    ],
    "example_custom_llm.py": [
        '  {"goal":"How long is the diagonal of a square field of 100 metres?","context":null}',
        '  {"you_said":"","you_called":[{"tool":"math","input":{"expression":"sqrt(2) * 100"}}]}',
        "Answer: About 141.4 metres.  [success]",
    ],
    "example_llm_client.py": [
        "ModelFailed",
        "ModelDecided: 425 tokens, 0.001000 USD",
        "success: That is 7006652.",
    ],
    "example_custom_store.py": [
        "success: Note 2 added to PROP-2025-001: Quorum reached",
        "Read back from notes.db: ['Legal review completed', 'Quorum reached']",
    ],
    "example_stream.py": [
        "running   math {'expression': '12*9'}",
        "done      {'proposal_id': 'PROP-2025-007', 'note': '108', 'count': 1}",
        "finished  success: Calculation result: 108 (from 12*9)",
    ],
    "example_durable_runs.py": [
        "First process:   the run is queued",
        "Second process:  success after 2 steps; runs in all: 1",
        "                 governance_note {'proposal_id': 'PROP-2025-007', 'note': '108', 'count': 1}",
        f"In doubt:        the run is waiting; step 1 says {NO_ANSWER}",
        "Resolved:        The council has been told.  [success]",
    ],
    "trigger_jobs.py": ['  "status": "success",', '  "output": "Calculation result: 108 (from 12*9)",'],
}


def test_no_example_goes_untested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ESSENTIAL)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_an_example_prints_what_a_newcomer_wants_to_see(name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = ran.stdout.splitlines()
    assert [line for line in ESSENTIAL[name] if line not in printed] == []


@pytest.fixture
def jobs() -> Any:
    """The module `examples/trigger_jobs.py`."""
    spec = importlib.util.spec_from_file_location("trigger_jobs", EXAMPLES / "trigger_jobs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_durable_job_that_is_retried_finds_its_run(
    jobs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    goal = "Add note to PROP-2025-001: Legal review completed"
    first, second = (json.loads(json.dumps(jobs.run_durable_job("17", goal))) for _ in range(2))
    assert first == second
    assert (first["status"], first["output"]) == (
        "success",
        "Note 1 added to PROP-2025-001: Legal review completed",
    )
    assert [step["output"]["count"] for step in first["trace"]] == [1]
    other = jobs.run_durable_job("18", goal)
    assert other["run_id"] != first["run_id"]
    assert other["trace"][0]["output"]["count"] == 2
    with pytest.raises(IdempotencyKeyReusedError):
        jobs.run_durable_job("17", "Calculate 2+2")


def test_a_job_is_one_function_call_that_returns_json(jobs: Any) -> None:
    result = json.loads(json.dumps(jobs.run_agent_job("Calculate 2+2", context="background")))
    assert (result["status"], result["output"]) == ("success", "Calculation result: 4 (from 2+2)")
    assert [step["tool"] for step in result["trace"]] == ["math"]
    assert jobs.run_agent_job("Book a flight to Paris")["status"] == "error"


JOB = (EXAMPLES / "trigger/agent-job.ts").read_text(encoding="utf-8")


def interface(name: str) -> dict[str, str]:
    """Return the fields of a TypeScript interface with their types; an optional one ends in `?`."""
    body = re.search(rf"export interface {name} \{{\n(.*?)\n\}}", JOB, re.DOTALL)
    assert body, name
    return dict(re.findall(r"^  (\w+\??): (.+);$", body[1], re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("AgentJobPayload", RunTaskRequest),
        ("AgentRun", RunTaskResponse),
        ("AgentStep", StepModel),
        ("Problem", Problem),
    ],
)
def test_the_types_of_the_trigger_task_are_those_of_the_wire(name: str, model: type[BaseModel]) -> None:
    real = {
        field + ("" if information.is_required() else "?"): information
        for field, information in model.model_fields.items()
    }
    fields = interface(name)
    assert list(fields) == list(real)
    for field, kind in fields.items():
        if field != "errors?":  # left out rather than null
            assert ("null" in kind) == ("None" in str(real[field].annotation)), field


def test_the_trigger_task_knows_how_a_field_problem_looks() -> None:
    assert interface("Problem")["errors?"] == "{ field: string; message: string }[]"
    assert list(FieldProblem.model_fields) == ["field", "message"]


def test_the_trigger_task_posts_to_the_service_and_handles_both_kinds_of_failure() -> None:
    settings = Settings(_env_file=None)
    assert 'import { AbortTaskRunError, task, wait } from "@trigger.dev/sdk";' in JOB
    assert f'process.env.AGENT_CORE_URL ?? "http://{settings.host}:{settings.port}"' in JOB
    assert "/api/v1/run-task`" in JOB
    assert '"Content-Type": "application/json"' in JOB
    assert f'startsWith("{PROBLEM_TYPE}")' in JOB
    assert 'run.status === "error"' in JOB
    # a second POST is a second run, but for its key: that has to be the same in every attempt
    assert '"Idempotency-Key": `"trigger-${ctx.run.id}"`' in JOB
    longest = re.search(r"maxDuration: (\d+)", JOB)
    assert longest
    assert int(longest[1]) > max(settings.max_run_seconds, LONGEST_ANSWER_S)


def test_the_trigger_task_knows_how_a_run_is_that_has_not_ended() -> None:
    status = interface("KeptRun")["status"]
    assert set(re.findall(r'"(\w+)"', status)) == set(get_args(RunStatus))
    assert set(interface("KeptRun")) <= set(RunModel.model_fields)
    assert "response.status === 202" in JOB
    assert 'kept.status === "waiting"' in JOB


def test_the_brackets_of_the_trigger_task_match() -> None:
    code = re.sub(r'"[^"\n]*"|`[^`]*`|//.*', "", JOB)
    brackets = re.sub(r"[^()\[\]{}]", "", code)
    assert len(brackets) > 40
    while (rest := re.sub(r"\(\)|\[\]|\{\}", "", brackets)) != brackets:
        brackets = rest
    assert brackets == ""
