"""The service behind `/run-task`: carries out one goal and hands back the finished run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from ..agent.core import Agent
from .ids import new_run_id
from .models import FinishedRun


class RunService:
    """Runs goals on one agent. It holds no run once its caller has the answer.

    Args:
        agent: carries out the goals.
        on_finished: is told of every finished run and how many seconds it took.
        new_id: makes run ids.
    """

    def __init__(
        self,
        agent: Agent,
        on_finished: Callable[[FinishedRun, float], None] | None = None,
        new_id: Callable[[], str] = new_run_id,
    ) -> None:
        self._agent = agent
        self._on_finished = on_finished
        self._new_id = new_id

    async def run_task(self, goal: str, context: str | None, tools: Sequence[str] | None) -> FinishedRun:
        """Carry out a goal and wait for its end.

        Raises:
            CallerError: the request cannot be carried out; nothing has run.
        """
        started = perf_counter()
        result = await self._agent.arun(goal, context, tools)
        run = FinishedRun(self._new_id(), result.status, result.output, result.trace)
        if self._on_finished is not None:
            self._on_finished(run, perf_counter() - started)
        return run
