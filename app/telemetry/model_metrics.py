"""Metrics of calls of models: how they end, how long they take, and what they take."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from msgspec.structs import astuple
from prometheus_client import CollectorRegistry, Counter, Histogram

from ..agent.events import ModelDecided, ModelFailed, ModelRejected, ModelRequested
from ..llm.interface import Usage
from ..runs.usage import MAX_COST_BOOKED, MAX_TOKENS_BOOKED
from .names import MODEL_FAILURES, UNKNOWN

Add: TypeAlias = Callable[[], None]
Observe: TypeAlias = Callable[[float], None]

BUCKETS: Final = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)

_KINDS: Final = tuple(field.removesuffix("_tokens") for field in Usage.__struct_fields__)


class Asked:
    """A run: since when this process has it, and which model is being asked, has answered or has failed.

    `began` is None if the process does not drive it, and only resolves or ends it; `asked_at` while no model
    is being asked that takes its time. `failed_model` is the one that failed last, until another call is made.
    """

    __slots__ = ("asked_at", "began", "failed_model", "is_asking", "model")

    def __init__(self, began: float | None) -> None:
        self.began = began
        self.is_asking = False
        self.asked_at: float | None = None
        self.model: str | None = None
        self.failed_model: str | None = None


class ModelMetrics:
    """Counts calls of the models that the settings name."""

    def __init__(self, registry: CollectorRegistry, models: Collection[str], clock: Callable[[], float]) -> None:
        self._names = frozenset(models)
        self._clock = clock
        self._calls = Counter(
            "agent_core_model_calls_total",
            "Calls of models by outcome: ok, rejected (an answer that is no decision), or how they failed.",
            ("model", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "agent_core_model_call_duration_seconds",
            "Seconds that calls of models took; those of the offline planner are not timed.",
            ("model",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "agent_core_model_tokens_total",
            "Tokens that models took by kind; those of the kinds cache_read and cache_write are input tokens too.",
            ("model", "kind"),
            registry=registry,
        )
        self._cost = Counter(
            "agent_core_model_cost_usd_total",
            "US dollars that calls of models cost, as far as their prices are known.",
            ("model",),
            registry=registry,
        )
        self._failovers = Counter(
            "agent_core_model_failovers_total",
            "Times that a model was asked because another one had failed.",
            ("failed_model", "model"),
            registry=registry,
        )
        self._children: dict[tuple[str, str], tuple[Add, Observe]] = {}

    def requested(self, run: Asked, event: ModelRequested) -> None:
        """Take note that a model is asked."""
        run.is_asking, run.model = True, event.model
        if event.model is not None:  # one without a name computes here and costs nothing: nobody waits for it
            run.asked_at = self._clock()
        if run.failed_model is not None:
            if run.failed_model != event.model:
                self._failovers.labels(self._name(run.failed_model), self._name(event.model)).inc()
            run.failed_model = None

    def decided(self, run: Asked, event: ModelDecided) -> None:
        """Take note of an answer."""
        name = self._name(run.model or event.model)
        self._ended(run, name, "ok")
        self._took(name, event.usage, event.cost)

    def rejected(self, run: Asked, event: ModelRejected) -> None:
        """Take note of an answer that is no decision."""
        name = self._name(run.model)
        self._ended(run, name, "rejected")
        self._took(name, event.usage, event.cost)

    def failed(self, run: Asked, event: ModelFailed) -> None:
        """Take note that there is no answer."""
        self._ended(run, self._name(event.model), MODEL_FAILURES.get(event.code, "error"))
        run.failed_model = event.model

    def broken_off(self, run: Asked, reason: str | None) -> None:
        """Take note that the run has ended while a model was asked."""
        self._ended(run, self._name(run.model), MODEL_FAILURES.get(reason or "", "error"))

    def _ended(self, run: Asked, name: str, outcome: str) -> None:
        count, observe = self._of_call(name, outcome)
        count()
        run.is_asking = False
        if run.asked_at is not None:  # a resumed run may tell of a call that another process made
            observe(self._clock() - run.asked_at)
            run.asked_at = None

    def _took(self, name: str, usage: Usage | None, cost: int | None) -> None:
        if usage is not None:
            for kind, tokens in zip(_KINDS, astuple(usage), strict=True):
                if tokens > 0:
                    self._tokens.labels(name, kind).inc(min(tokens, MAX_TOKENS_BOOKED))
        if cost is not None and cost > 0:
            self._cost.labels(name).inc(min(cost, MAX_COST_BOOKED) / 1e9)

    def _name(self, model: str | None) -> str:
        return model if model in self._names and model is not None else UNKNOWN

    def _of_call(self, name: str, outcome: str) -> tuple[Add, Observe]:
        found = self._children.get((name, outcome))
        if found is None:
            found = self._calls.labels(name, outcome).inc, self._seconds.labels(name).observe
            self._children[name, outcome] = found
        return found
