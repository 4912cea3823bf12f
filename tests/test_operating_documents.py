"""What docs/runs.md and docs/operations.md say in numbers, states and commands is what the program does."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from fakes import ScriptedModel, answer, call

from app.agent.core import Agent
from app.agent.loop import MAX_ATTEMPTS
from app.agent.planner import MAX_ARGUMENT_BYTES, MAX_CALLS_PER_TURN
from app.agent.toolbox import MAX_OUTPUT_BYTES
from app.api import sse
from app.auth import credentials, key_service, limits, quotas
from app.bootstrap import process, readiness
from app.cli import serve, worker
from app.cli.database import DAY_S
from app.errors import LLMError, UnknownModelError
from app.permissions import FIXED_SCOPES
from app.queues import consumer
from app.queues.in_process import AT_ONCE, redeliver_forever
from app.queues.link import DEFAULT_PACE
from app.queues.reconcile import Reconciler
from app.runs import service
from app.runs.capping import MAX_EVENT_BYTES
from app.runs.driver import MAX_CLAIMS
from app.runs.executor import RETRY_UNREADABLE_S
from app.runs.live import MAX_CHARS, PIECE_CHARS
from app.runs.models import MAX_PRIORITY, MIN_PRIORITY, RunStatus
from app.runs.requests import MAX_DEADLINE_S, MAX_METADATA_BYTES, MAX_STEPS
from app.storage import relay
from app.storage.database import FILE_NAME, PATIENCE_S, Database
from app.storage.notes import MAX_NOTES
from app.storage.postgres import CONNECTIONS, MORE_CONNECTIONS
from app.storage.retention import KEYS_KEPT_US
from app.storage.schema import stored_revision
from app.tools.base import DEFAULT_TIMEOUT_S, Effect, prepare
from app.tools.call import MAX_PROGRESS_CHARS, reporting_to

ROOT = Path(__file__).parent.parent
RUNS = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def first_cells(page: str, header: str) -> list[str]:
    """Return the first cells of the table with this header."""
    lines = page.splitlines()
    start = lines.index(header) + 2
    end = next(at for at in range(start, len(lines)) if not lines[at].startswith("|"))
    return [line.split("|")[1].strip() for line in lines[start:end]]


def test_the_diagram_has_every_state_there_is() -> None:
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", RUNS, re.DOTALL)
    moves = re.findall(r"^ +(\S+) --> (\w+|\[\*\])", diagram, re.MULTILINE)
    states = {state for move in moves for state in move} - {"[*]"}
    assert states == set(get_args(RunStatus))
    ends = {before for before, after in moves if after == "[*]"}
    assert ends == {"success", "error", "cancelled"}
    assert not [move for move in moves if move[0] in ends and move[1] != "[*]"]


def test_every_effect_has_a_row() -> None:
    header = next(line for line in RUNS.splitlines() if line.startswith("| effect | before the call"))
    assert [re.findall("`(.*?)`", cell)[0] for cell in first_cells(RUNS, header)] == list(Effect)


def test_every_reason_has_a_row() -> None:
    cells = first_cells(RUNS, "| reason | what happened |")
    shown = {reason for cell in cells for reason in re.findall("`(.*?)`", cell)}
    ended = {code.code for code in (LLMError, *LLMError.__subclasses__(), UnknownModelError)} - {LLMError.code}
    for path in (ROOT / "app").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for reason in shown - ended:
            ended |= {reason} if f'"{reason}"' in source else set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RunFinished":
                ended |= {str(given.value) for given in node.args[2:] if isinstance(given, ast.Constant)}
    assert ended == shown


@pytest.mark.parametrize(
    "stated",
    [
        f"| an event's text | {MAX_EVENT_BYTES // 1024} KiB |",
        f"| what a tool returns | {MAX_OUTPUT_BYTES // 1024} KiB |",
        f"| the calls of one turn of the model | {MAX_CALLS_PER_TURN}, together {MAX_ARGUMENT_BYTES >> 10} KiB |",
        f"| the output given to `resolve` | {service.MAX_OUTPUT_BYTES // 1024} KiB |",
        f"| `metadata` | {MAX_METADATA_BYTES // 1024} KiB |",
        f"| `deadline_s` | {MAX_DEADLINE_S / DAY_S:g} days |",
        f"| `max_steps` | {MAX_STEPS:,} |",
        f"| notes of a proposal | {MAX_NOTES:,} |",
        f"| attempts of a keyed call that times out | {MAX_ATTEMPTS} |",
        f"| processes in a row that die on a run | {MAX_CLAIMS} |",
        f"**Priorities** are {MIN_PRIORITY} to {MAX_PRIORITY};",
        f"priorities count among the {AT_ONCE:,} oldest",
        f"The answer comes within {service.CANCEL_S:g} s",
        f"a comment (`:`) every {sse.HEARTBEAT_S:g} s",
        f"for at least {KEYS_KEPT_US / 3_600_000_000:g} hours",
    ],
)
def test_the_limits_of_runs_are_the_ones_in_the_program(stated: str) -> None:
    assert stated in RUNS


def test_how_long_run_task_waits_is_as_stated() -> None:
    waits: float = inspect.signature(service.RunService).parameters["wait_s"].default
    assert f"| how long `/run-task` waits for a worker | {waits / 60:g} minutes |" in RUNS


NUMBERS = {10.0: "ten"}

SERVER = (
    CONNECTIONS + MORE_CONNECTIONS + CONNECTIONS + 1
)  # the other pool's idle ones, and the news of other processes
WORKER = consumer.CONNECTIONS + 1 + 2 + 1  # the news of jobs, the reconcile pass, and a look whether it is there


@pytest.mark.parametrize(
    "stated",
    [
        f"| a worker renews its lease | every {process.HEARTBEAT_S:g} s |",
        f"| a lease lasts | {process.LEASE_S:g} s |",
        f"within {process.LOOK_FOR_CANCELS_S:g} s, in another process",
        f"lets requests under way end for {serve.REQUESTS_S} s",
        f"under way have another {process.GRACE_S:g} s. A worker gives its steps {worker.GRACE_S:g} s",
        f"(a tool has {DEFAULT_TIMEOUT_S:g} s unless it says otherwise)",
        f"prune every {NUMBERS[process.PRUNE_S / 60]} minutes",
        f"did not answer for {PATIENCE_S:g} s",
        f"a server has up to {SERVER}, a worker up to {SERVER + WORKER}, and a handful",
    ],
)
def test_the_times_of_operations_are_the_ones_in_the_program(stated: str) -> None:
    assert stated in OPERATIONS


def test_lost_runs_are_looked_for_as_often_as_stated() -> None:
    every: float = inspect.signature(Reconciler.reconcile_forever).parameters["every_s"].default
    grace: float = inspect.signature(Reconciler).parameters["grace_s"].default
    embedded: float = inspect.signature(redeliver_forever).parameters["every_s"].default
    assert f"| the pass that looks for lost runs | every {every:g} s, by one worker at a time |" in OPERATIONS
    assert (
        f"within {embedded:g} s embedded (the pass over what waits), {grace:g} to {grace + every:g} s"
        in OPERATIONS
    )
    least, most = process.LEASE_S - process.HEARTBEAT_S, process.LEASE_S
    assert f"{least:g} to {most:g} s until its lease is over, at most {every:g} s to the next pass" in OPERATIONS
    assert most + every + DEFAULT_PACE.poll_s < 10


def test_every_alert_has_a_row_that_says_what_to_do() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8")
    rows = [cell.strip("`") for cell in first_cells(OPERATIONS, "| alert | what to do |")]
    assert rows == re.findall(r"- alert: (\w+)", rules)


def test_what_is_said_of_keys_limits_and_health_is_so() -> None:
    (scopes,) = re.findall(r"^- \*\*Scopes\*\*: (.*?)\. A route", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert set(re.findall("`(.*?)`", scopes)) == {*FIXED_SCOPES, "tools:NAME"}
    (ready,) = [line for line in OPERATIONS.splitlines() if line.startswith("| `GET /api/v1/health/ready`")]
    assert set(re.findall("`(\\w+)`", ready)) - {"not_ready"} == set(readiness.SENTENCES)
    assert credentials.REMEMBER_S == 2
    assert "which knows of a change within 2 seconds" in OPERATIONS
    assert f"({key_service.MAX_OVERLAP_S // 86_400} days at most)" in OPERATIONS
    assert (quotas.FRESH_S, limits.RETRY_S) == (0.5, 5)
    assert "it knows half a second later" in OPERATIONS
    assert "tries again every five seconds" in OPERATIONS


def test_a_run_of_a_newer_version_is_tried_again_as_often_as_stated() -> None:
    assert RETRY_UNREADABLE_S == 10
    assert "it is tried again ten seconds later" in RUNS


def test_the_queue_has_the_pace_of_the_leases() -> None:
    assert (DEFAULT_PACE.heartbeat_s, DEFAULT_PACE.stalled_s) == (process.HEARTBEAT_S, process.LEASE_S)


def block_with(name: str) -> str:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", RUNS, re.DOTALL) if name in block)
    return str(block)


def test_the_tool_of_the_page_tells_how_it_gets_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crawl_of_the_page.py").write_text(block_with("report_progress"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    tool = importlib.import_module("crawl_of_the_page").Crawl()
    heard: list[tuple[int, str, float | None]] = []
    model = ScriptedModel(call("crawl", pages=2), answer("Done."))
    with reporting_to(lambda of, text, fraction: heard.append((of.step, text, fraction))):
        (step,) = asyncio.run(Agent(model, tools=[tool]).arun("Read it")).trace
    assert step.output == {"pages": 2}
    assert heard == [(1, "1 of 2 pages", 0.5), (1, "2 of 2 pages", 1.0)]


def test_what_is_heard_has_the_limits_that_are_stated() -> None:
    assert (PIECE_CHARS, MAX_CHARS, MAX_PROGRESS_CHARS) == (16_384, 65_536, 1_000)
    assert (relay.PAUSE_S, relay.REPEAT_S) == (1 / 20, 5)
    for stated in ("16,384 characters", "65,536 characters", "1,000 characters", "every 5 s"):
        assert stated in RUNS


def test_the_tool_of_the_page_knows_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "webhook_of_the_page.py").write_text(block_with("current_call"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    tool = importlib.import_module("webhook_of_the_page").Webhook()
    assert prepare(tool).effect is Effect.KEYED
    model = ScriptedModel(call("webhook", event="paid"), answer("Done."))
    (step,) = Agent(model, tools=[tool]).run("Tell the partner").trace
    assert step.output is not None
    assert (step.output["delivered"], step.output["step"], step.output["attempt"]) == (True, 1, 1)


def test_the_backup_is_a_whole_database_though_a_process_is_at_work_on_the_other(
    data_dir: Path, tmp_path: Path
) -> None:
    (line,) = [line for line in OPERATIONS.splitlines() if "VACUUM INTO" in line]
    words = shlex.split(line)
    assert words[:4] == ["uv", "run", "python", "-c"]
    assert data_dir == tmp_path / "data"
    writing = Database.open(data_dir)
    with writing.write_engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("INSERT INTO workers VALUES ('somebody', 1)")
        subprocess.run([sys.executable, *words[3:]], cwd=tmp_path, check=True)
    writing.close()
    restored = tmp_path / "restored"
    restored.mkdir()
    (tmp_path / "backup.db").rename(restored / FILE_NAME)
    found = Database.open(restored)
    assert found.read_now(stored_revision) == Database.open(data_dir).read_now(stored_revision)
    found.close()
