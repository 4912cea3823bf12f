"""The service behind `/run-task`: carries out one goal and hands back the finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from ..agent.core import Agent
from .ids import new_run_id
from .models import FinishedRun

log = logging.getLogger(__name__)


class RunService:
    """Runs goals on one agent. It holds no run once its caller has the answer."""

    def __init__(self, agent: Agent, new_id: Callable[[], str] = new_run_id) -> None:
        self._agent = agent
        self._new_id = new_id

    async def run_task(self, goal: str, context: str | None, tools: Sequence[str] | None) -> FinishedRun:
        """Carry out a goal and wait for its end.

        Raises:
            CallerError: the request cannot be carried out; nothing has run.
        """
        started = perf_counter()
        result = await self._agent.arun(goal, context, tools)
        run = FinishedRun(self._new_id(), result.status, result.output, result.trace)
        log.info(
            "run finished",
            extra={
                "fields": {
                    "run_id": run.run_id,
                    "status": run.status,
                    "steps": len(run.trace),
                    "ms": round((perf_counter() - started) * 1000, 2),
                }
            },
        )
        return run
