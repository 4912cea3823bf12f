"""Metrics of runs, their steps and their calls of models, made from what happens in them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram

from ..agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
    RunStarted,
    ToolCompleted,
    ToolInterrupted,
)
from ..errors import ToolDeniedError
from ..runs.models import RunKey
from ..tools.base import ToolSource
from .model_metrics import Asked, ModelMetrics
from .names import BUDGETS, OTHER, REASONS, UNKNOWN

Add: TypeAlias = Callable[[], None]
Observe: TypeAlias = Callable[[float], None]

RUN_BUCKETS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
STEP_BUCKETS: Final = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_DENIED: Final = f"{ToolDeniedError.code}:"


class RunMetrics:
    """A `RunObserver`.

    Args:
        tools: whose names steps are counted under; every other is "unknown".
        models: the names in the settings, under which calls are counted; every other is "unknown".
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        tools: ToolSource,
        models: Collection[str],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._tools = tools
        self._clock = clock
        self._models = ModelMetrics(registry, models, clock)
        self._runs = Counter(
            "agent_core_runs_finished_total",
            "Runs that ended in this process, by status and by the group of the reason.",
            ("status", "reason"),
            registry=registry,
        )
        self._run_seconds = Histogram(
            "agent_core_run_duration_seconds",
            "Seconds from when this process took a run up until it ended there.",
            ("status",),
            buckets=RUN_BUCKETS,
            registry=registry,
        )
        self._steps = Counter(
            "agent_core_steps_total",
            "Tool calls by outcome. One in doubt counts again once somebody knows what became of it.",
            ("tool", "outcome"),
            registry=registry,
        )
        self._step_seconds = Histogram(
            "agent_core_step_duration_seconds",
            "Seconds that calls of tools took; those that were not made have none.",
            ("tool",),
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._budget_refusals = Counter(
            "agent_core_budget_refusals_total",
            "Runs that a budget ended (tokens, cost) or did not let begin (too_large, unpriced).",
            ("budget",),
            registry=registry,
        )
        for budget in BUDGETS.values():
            self._budget_refusals.labels(budget)
        self._under_way: dict[str, Asked] = {}  # by id, of which no two tenants have the same
        self._takers: dict[type[Event], Callable[[Asked, Any], None]] = {
            ModelRequested: self._models.requested,
            ModelDecided: self._models.decided,
            ModelRejected: self._models.rejected,
            ModelFailed: self._models.failed,
            ToolCompleted: self._completed,
            ToolInterrupted: self._interrupted,
            RunFinished: self._finished,
        }
        self.watched: Collection[type[Event]] = self._takers.keys()
        self._ends: dict[tuple[str, str | None], tuple[Add, Observe]] = {}
        self._outcomes: dict[tuple[str, str], tuple[Add, Observe]] = {}

    def began(self, key: RunKey, _: RunStarted) -> None:
        self._under_way[key.run_id] = Asked(self._clock())

    def left(self, key: RunKey) -> None:
        self._under_way.pop(key.run_id, None)

    def recorded(self, key: RunKey, event: Event) -> None:
        self._takers[type(event)](self._under_way.get(key.run_id) or Asked(None), event)

    def refused(self, code: str) -> None:
        """Count a run that was not begun, if the code is that of a budget."""
        budget = BUDGETS.get(code)
        if budget is not None:
            self._budget_refusals.labels(budget).inc()

    def _interrupted(self, _: Asked, event: ToolInterrupted) -> None:
        if event.in_doubt:
            self._of_step(event.tool, "in_doubt")[0]()

    def _completed(self, _: Asked, event: ToolCompleted) -> None:
        error = event.step.error
        outcome = "ok" if error is None else "denied" if error.startswith(_DENIED) else "error"
        count, observe = self._of_step(event.step.tool, outcome)
        count()
        if event.duration_s > 0:
            observe(event.duration_s)

    def _finished(self, run: Asked, event: RunFinished) -> None:
        count, observe = self._of_end(event.status, event.reason)
        count()
        if run.began is not None:
            observe(self._clock() - run.began)
            if run.is_asking:
                self._models.broken_off(run, event.reason)
        if event.reason in BUDGETS:
            self.refused(event.reason)

    def _of_step(self, tool: str, outcome: str) -> tuple[Add, Observe]:
        found = self._outcomes.get((tool, outcome))
        if found is None:
            is_known = tool in self._tools.snapshot()
            name = tool if is_known else UNKNOWN
            found = self._steps.labels(name, outcome).inc, self._step_seconds.labels(name).observe
            if is_known:  # what models make up is not to be remembered
                self._outcomes[tool, outcome] = found
        return found

    def _of_end(self, status: str, reason: str | None) -> tuple[Add, Observe]:
        group = "none" if reason is None else REASONS.get(reason, OTHER)
        found = self._ends.get((status, group))
        if found is None:
            found = self._runs.labels(status, group).inc, self._run_seconds.labels(status).observe
            self._ends[status, group] = found
        return found
