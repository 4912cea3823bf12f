"""The trace that the running code is a part of, if anything traces, for what goes out of this process."""

from __future__ import annotations

import sys


def current_traceparent() -> str | None:
    """Return the span that is under way here as W3C Trace Context writes it; None if there is none.

    OpenTelemetry is not loaded for this: where nobody else has, there are no spans.
    """
    tracing = sys.modules.get("opentelemetry.trace")
    if tracing is None:
        return None
    context = tracing.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
