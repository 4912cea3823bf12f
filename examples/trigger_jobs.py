"""The way in from a job system that runs Python: a plain function, no HTTP, a plain dict back.

Use `run_agent_job` as the body of a job of Celery, RQ, Dramatiq, Trigger.dev's Python runner, cron, or any other.
Try it from the checkout: `uv run examples/trigger_jobs.py "Calculate 12*9"`
"""

import json
import sys
from typing import Any

from app.agent.core import Agent

_agent = Agent()  # keeps nothing of a run, so one serves every job of the worker


def run_agent_job(goal: str, context: str | None = None) -> dict[str, Any]:
    """Carry out a goal and return `{"status", "output", "trace"}`, JSON-able as it is.

    A run that fails is a result with `status: "error"`, not an exception. In this version a job that is retried
    runs again from its start: retry by yourself only goals that write nothing.

    Raises:
        InvalidGoalError, InvalidContextError: the request cannot be carried out; nothing has run.
    """
    return _agent.run(goal, context).model_dump()


if __name__ == "__main__":
    print(json.dumps(run_agent_job(" ".join(sys.argv[1:]) or "Calculate 12*9"), indent=2))
