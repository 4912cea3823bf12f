"""The examples run as a newcomer runs them, and show what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from app.api.errors import PROBLEM_TYPE
from app.api.models import FieldProblem, Problem, RunTaskRequest, RunTaskResponse, StepModel
from app.config import Settings

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

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
    "example_custom_store.py": [
        "success: Note 2 added to PROP-2025-001: Quorum reached",
        "Read back from notes.db: ['Legal review completed', 'Quorum reached']",
    ],
    "example_stream.py": [
        "running   math {'expression': '12*9'}",
        "done      {'proposal_id': 'PROP-2025-007', 'note': '108', 'count': 1}",
        "finished  success: Calculation result: 108 (from 12*9)",
    ],
    "trigger_jobs.py": ['  "status": "success",', '  "output": "Calculation result: 108 (from 12*9)",'],
}


def test_no_example_goes_untested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ESSENTIAL)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_an_example_prints_what_a_newcomer_wants_to_see(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = ran.stdout.splitlines()
    assert [line for line in ESSENTIAL[name] if line not in printed] == []


def test_a_job_is_one_function_call_that_returns_json() -> None:
    spec = importlib.util.spec_from_file_location("trigger_jobs", EXAMPLES / "trigger_jobs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = json.loads(json.dumps(module.run_agent_job("Calculate 2+2", context="background")))
    assert (result["status"], result["output"]) == ("success", "Calculation result: 4 (from 2+2)")
    assert [step["tool"] for step in result["trace"]] == ["math"]
    assert module.run_agent_job("Book a flight to Paris")["status"] == "error"


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
    assert 'import { AbortTaskRunError, task } from "@trigger.dev/sdk";' in JOB
    assert f'process.env.AGENT_CORE_URL ?? "http://{settings.host}:{settings.port}"' in JOB
    assert "/api/v1/run-task`" in JOB
    assert '"Content-Type": "application/json"' in JOB
    assert f'startsWith("{PROBLEM_TYPE}")' in JOB
    assert 'run.status === "error"' in JOB
    # a second POST is a second run: a job system must not repeat it silently
    assert "retry: { maxAttempts: 1 }" in JOB
    longest = re.search(r"maxDuration: (\d+)", JOB)
    assert longest
    assert int(longest[1]) > settings.max_run_seconds


def test_the_brackets_of_the_trigger_task_match() -> None:
    code = re.sub(r'"[^"\n]*"|`[^`]*`|//.*', "", JOB)
    brackets = re.sub(r"[^()\[\]{}]", "", code)
    assert len(brackets) > 40
    while (rest := re.sub(r"\(\)|\[\]|\{\}", "", brackets)) != brackets:
        brackets = rest
    assert brackets == ""
