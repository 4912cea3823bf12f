"""Where the running code is: the run, the step and the span that a line of the log comes from."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from contextvars import ContextVar

from ..agent.events import Event, RunStarted
from ..llm.trace_context import current_traceparent
from ..runs.models import RunKey
from ..tools.call import current_call

_run: ContextVar[RunKey | None] = ContextVar("current_run", default=None)


class RunPlace:
    """A `RunObserver` that lets the log know which run a task drives."""

    watched: Collection[type[Event]] = ()

    def began(self, key: RunKey, opening: RunStarted) -> None:  # noqa: ARG002
        _run.set(key)

    def recorded(self, key: RunKey, event: Event) -> None:
        """Nothing: the step is read where a line is made."""

    def left(self, key: RunKey) -> None:  # noqa: ARG002
        _run.set(None)


def place() -> dict[str, object]:
    """Return `run_id`, `tenant`, `step`, `trace_id` and `span_id`, those of them that there are here."""
    found = run_place()
    with suppress(RuntimeError):  # it is no tool call
        call = current_call()
        found["run_id"], found["tenant"], found["step"] = call.run_id, call.tenant, call.step
    return found


def run_place() -> dict[str, object]:
    """Return the same without the step, and in half the time."""
    found = span_ids()
    run = _run.get()
    if run is not None:
        found["run_id"], found["tenant"] = run.run_id, run.tenant
    return found


def span_ids() -> dict[str, object]:
    """Return the ids of the span that is under way, as W3C Trace Context writes them."""
    traceparent = current_traceparent()
    if traceparent is None:
        return {}
    _, trace_id, span_id, _ = traceparent.split("-")
    return {"trace_id": trace_id, "span_id": span_id}
