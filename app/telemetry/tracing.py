"""Tracing by OpenTelemetry: whether it is wanted, where spans go, and that the last of them get there.

It is configured by the standard `OTEL_*` variables and nothing else. Nothing of OpenTelemetry is loaded unless
they ask for it, which needs the extra `otel`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..blocking import call_in_thread
from ..errors import ConfigurationError, MissingExtraError
from ..timelimit import TimeLimitError, within

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from .request_spans import TracedRequests
    from .run_spans import RunSpans

SERVICE: Final = "llm-agent-core"

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"
"""The semantic conventions that the spans keep to, those for HTTP and those for generative AI."""

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
LOCAL: Final = "http://localhost:4318"
"""Where spans go that nobody has given an address (the specification of OTLP exporters)."""

PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

HTTP: Final = "otlp_proto_http"
"""The exporter that the extra `otel` brings, by its name."""

FLUSH_S: Final = 3.0
"""How long stopping waits for a collector that does not take the last spans."""


class Tracing:
    """The spans of this process: give `runs` to what drives runs, and put `requests` around the application."""

    def __init__(self, provider: TracerProvider) -> None:
        from .request_spans import TracedRequests
        from .run_spans import RunSpans

        self._provider = provider
        tracer = provider.get_tracer(SERVICE, __version__, SCHEMA_URL)
        self.runs: RunSpans = RunSpans(tracer)
        self.requests: type[TracedRequests] = TracedRequests
        self.tracer = tracer

    async def stop(self, seconds: float = FLUSH_S) -> None:
        """Send what waits, for at most so long, and take no more spans."""
        try:
            await within(seconds, call_in_thread(lambda _: self._provider.shutdown(), None))
        except TimeLimitError:
            return


def wanted(environ: Mapping[str, str]) -> bool:
    """Say whether the environment asks for spans: it names an exporter, or where to send them by OTLP."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def open_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """Return the tracing that the environment asks for, if it does; the SDK itself reads `os.environ`.

    Tools that make spans of their own through `opentelemetry.trace` have them exported too, unless the process
    had a provider before.

    Raises:
        MissingExtraError: it is wanted, and not installed.
        ConfigurationError: there is no exporter of the name, or the address is none.
    """
    if not wanted(environ):
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError("The OTEL_* variables ask for tracing: uv sync --extra otel") from error
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in _exporters(environ):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name, environ)))
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    return Tracing(provider)


def _exporters(environ: Mapping[str, str]) -> list[str]:
    """Return the names under which the exporters are installed; `otlp` means one of two."""
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    otlp = "otlp_proto_grpc" if environ.get(_first_set(environ, PROTOCOLS), "").lower() == "grpc" else HTTP
    return [otlp if name.strip() == "otlp" else name.strip() for name in named.split(",") if name.strip()]


def _first_set(environ: Mapping[str, str], names: Sequence[str]) -> str:
    """Return which of the variables, of which the first counts most, is set; the last if none is."""
    return next((name for name in names if environ.get(name)), names[-1])


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    found = tuple(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found and name == HTTP:
        raise MissingExtraError("The OTEL_* variables ask for tracing: uv sync --extra otel")
    if not found and name == "otlp_proto_grpc":
        raise ConfigurationError(f"{_first_set(environ, PROTOCOLS)}: grpc is not installed; http/protobuf is.")
    if not found:
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER: no exporter {name[:80]!r} is installed.")
    endpoint = _first_set(environ, ENDPOINTS)
    if name == HTTP and not re.match(r"https?://[^/]", environ.get(endpoint) or LOCAL, re.IGNORECASE):
        # it would be taken, and spans lost without a word
        raise ConfigurationError(f"{endpoint}: it has to begin with http:// or https://")
    exporter: SpanExporter = found[0].load()()
    return exporter
