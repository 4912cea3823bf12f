"""The two ways in from a job system that runs Python: plain functions, no HTTP, a plain dict back.

Use one of them as the body of a job of Celery, RQ, Dramatiq, Trigger.dev's Python runner, cron, or any other:

- `run_agent_job`: the run lives and ends with the job, and nothing of it is kept;
- `run_durable_job`: the run is kept, and a job that is retried finds the run of its first attempt.

Try them from the checkout: `uv run examples/trigger_jobs.py "Calculate 12*9"`, or with a job's id in front:
`uv run examples/trigger_jobs.py --job 17 "Calculate 12*9 and add the result as a note to PROP-2025-007"`
"""

import asyncio
import json
import sys
from hashlib import sha256
from typing import Any

import msgspec

from app.agent.core import Agent
from app.bootstrap import open_runs
from app.runs.models import IdempotencyKey, RunRequest

WAIT_S = 600.0

_agent = Agent()  # keeps nothing of a run, so one serves every job of the worker


def run_agent_job(goal: str, context: str | None = None) -> dict[str, Any]:
    """Carry out a goal and return `{"status", "output", "trace"}`, JSON-able as it is.

    A run that fails is a result with `status: "error"`, not an exception. A job that is retried runs again from
    its start: retry by yourself only goals that write nothing.

    Raises:
        InvalidGoalError, InvalidContextError: the request cannot be carried out; nothing has run.
    """
    return _agent.run(goal, context).model_dump()


def run_durable_job(job_id: str, goal: str, context: str | None = None) -> dict[str, Any]:
    """Carry out a goal once for this job, however often that is retried.

    Returns:
        `{"run_id", "status", "output", "trace"}`, JSON-able as it is. `status` is also "waiting", if somebody has
        to say what became of a step, or what it is after ten minutes; call again with the same job to wait on.

    With a data directory (DATA_DIR) the run is carried out here, and one process at a time can do that; with
    DATABASE_URL the workers do, and any number of jobs may wait.

    Raises:
        CallerError: the request cannot be carried out, or the job's id was used for another one.
        DataInUseError: another process has the data directory.
    """
    return asyncio.run(_carry_out(job_id, RunRequest(goal, context)))


async def _carry_out(job_id: str, request: RunRequest) -> dict[str, Any]:
    key = IdempotencyKey(f"job-{job_id}", sha256(msgspec.json.encode(request)).digest())
    async with open_runs() as runs:
        run = await runs.submit(request, key=key)
        run = await runs.wait(run.run_id, WAIT_S)
        trace = await runs.trace(run.run_id)
    steps: list[Any] = msgspec.to_builtins(trace.steps)
    return {"run_id": run.run_id, "status": run.status, "output": run.output, "trace": steps}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--job"]:
        result = run_durable_job(arguments[1], " ".join(arguments[2:]) or "Calculate 12*9")
    else:
        result = run_agent_job(" ".join(arguments) or "Calculate 12*9")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
