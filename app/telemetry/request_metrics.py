"""Metrics of requests: how they were answered, how long that took, and which were refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram

from .names import METHODS, OTHER, REFUSALS

Add: TypeAlias = Callable[[], None]
Observe: TypeAlias = Callable[[float], None]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STREAM_BUCKETS: Final = (1, 10, 60, 300, 900, 3600, 14_400)


class RequestMetrics:
    """Counts requests. A stream is counted when it ends, and its duration apart from those of other answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "agent_core_http_requests_total",
            "Requests by method, template of the route, and status of the answer.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "agent_core_http_request_duration_seconds",
            "Seconds from a request to the last byte of its answer; streams are not among them.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._stream_seconds = Histogram(
            "agent_core_http_stream_duration_seconds",
            "Seconds that streams of events were open.",
            ("route",),
            buckets=STREAM_BUCKETS,
            registry=registry,
        )
        self._refusals = Counter(
            "agent_core_requests_refused_total",
            "Requests that were refused for who sent them, or how many.",
            ("reason",),
            registry=registry,
        )
        self._refused = {reason: self._refusals.labels(reason).inc for reason in REFUSALS}
        self._children: dict[tuple[str, str, int, bool], tuple[Add, Observe]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float, is_stream: bool) -> None:
        """Count a request. `route` is the template of a path, and never a path."""
        key = (method if method in METHODS else OTHER, route, status, is_stream)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = self._of(*key)
        count, observe = found
        count()
        observe(seconds)

    def refused(self, code: str) -> None:
        """Count a request that was refused, if the code is one of `REFUSALS`."""
        count = self._refused.get(code)
        if count is not None:
            count()

    def _of(self, method: str, route: str, status: int, is_stream: bool) -> tuple[Add, Observe]:
        if is_stream:
            observe = self._stream_seconds.labels(route).observe
        else:
            observe = self._seconds.labels(method, route).observe
        return self._requests.labels(method, route, str(status)).inc, observe
