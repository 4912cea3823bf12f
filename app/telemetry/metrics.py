"""The metrics of a process: one registry of its own, who counts in it, and the text that Prometheus reads."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder

from .. import __version__
from ..runs.backlog import BacklogSource
from ..tools.base import ToolSource
from .journal_metrics import BacklogMetrics, JournalMetrics
from .request_metrics import RequestMetrics
from .run_metrics import RunMetrics

OPENMETRICS: Final = "application/openmetrics-text"


class Metrics:
    """What a process counts, each kind of it by an object of its own.

    No label is taken from what somebody sends: whatever that is, it makes no new series.

    Args:
        tools: the tools that there are.
        models: the names of models in the settings.
        backlog: is read when somebody asks for the metrics, at most once a second.
    """

    def __init__(self, tools: ToolSource, models: Collection[str], backlog: BacklogSource) -> None:
        self.registry = CollectorRegistry()
        self.runs = RunMetrics(self.registry, tools, models)
        self.requests = RequestMetrics(self.registry)
        self.journal = JournalMetrics(self.registry)
        self._backlog = BacklogMetrics(self.registry, backlog)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        build = Gauge(
            "agent_core_build_info",
            "1, labelled with the version of the program and of Python.",
            ("version", "python_version"),
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)

    def refused(self, code: str) -> None:
        """Count a request that was refused, by the code of why; most codes are not counted."""
        self.requests.refused(code)
        self.runs.refused(code)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as they are now and their content type: OpenMetrics for whoever accepts it, or text.

        They are written on a thread, so that a large text keeps nobody waiting.
        """
        await self._backlog.refresh()
        # only these two: the library would put what a client says of versions into the answer
        encode, content_type = choose_encoder(f"{OPENMETRICS};version=1.0.0" if OPENMETRICS in accept else "")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, encode, _WithoutCreated(self.registry)), content_type


class _WithoutCreated:
    """A registry without the time that each series began, which doubles the text and which nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
