"""Metrics of the journal and of the backlog that is read from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

from ..errors import StorageError
from ..runs.backlog import Backlog, BacklogSource
from ..runs.glance import Glance

COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2000)


class JournalMetrics:
    """Counts what the group writer commits; `committed` may be called on any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        commits = Counter(
            "agent_core_journal_commits_total",
            "Groups of units that were written to the journal, by outcome; a failed one was given up.",
            ("outcome",),
            registry=registry,
        )
        self._ok, self._failed = commits.labels("ok").inc, commits.labels("failed").inc
        self._units = Histogram(
            "agent_core_journal_commit_units",
            "Units that were written to the journal together.",
            buckets=SIZE_BUCKETS,
            registry=registry,
        ).observe
        self._seconds = Histogram(
            "agent_core_journal_commit_duration_seconds",
            "Seconds until a group of units was durable or given up, attempts that failed included.",
            buckets=COMMIT_BUCKETS,
            registry=registry,
        ).observe

    def committed(self, units: int, seconds: float, has_failed: bool) -> None:
        """Count a group."""
        (self._failed if has_failed else self._ok)()
        self._units(units)
        self._seconds(seconds)


class BacklogMetrics:
    """The backlog as gauges, all processes with one database have the same; read when they are asked for.

    While the database does not answer there is none of them, but `agent_core_database_up` is 0.
    """

    def __init__(self, registry: CollectorRegistry, source: BacklogSource) -> None:
        self._glance = Glance(source.read)
        self._backlog: Backlog | None = None
        registry.register(self)

    async def refresh(self) -> None:
        """Read it, unless that was done within the last second; for a second at most."""
        try:
            self._backlog = await self._glance.look()
        except (StorageError, TimeoutError):
            self._backlog = None

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        now = self._backlog
        yield _gauge("database_up", "Whether the database answered within a second.", float(now is not None))
        if now is None:
            return
        yield _gauge("queued_runs", "Runs that could be carried out now and that nobody has taken up.", now.queued)
        yield _gauge("running_runs", "Runs that a process has taken up.", now.running)
        yield _gauge("waiting_runs", "Runs that wait for a person to say what became of a step.", now.waiting)
        yield _gauge(
            "oldest_queued_run_age_seconds",
            "Seconds since the oldest queued run could have been carried out; 0 if there is none.",
            now.oldest_queued_s,
        )


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"agent_core_{name}", documentation, value)
