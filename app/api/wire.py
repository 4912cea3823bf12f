"""The forms in which runs go out: hashes in hex, integers beyond 2^53-1 as strings, no tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..agent.result import wire_trace
from ..jsonvalue import wire_form
from ..llm.interface import Usage
from ..runs.models import FinishedRun, Run, RunPage, StoredEvent, Trace
from ..runs.reports import UsageReport
from ..runs.usage import Used, to_usd
from .sse import event_type


def finished(run: FinishedRun) -> FinishedRun:
    """Return a finished run as `/run-task` shows it; there a cancelled one is an error."""
    status = run.status if run.status == "success" else "error"
    return FinishedRun(run.run_id, status, run.output, wire_trace(run.trace))


def resource(run: Run) -> dict[str, Any]:
    """Return a run as `RunModel` states it."""
    return {
        "run_id": run.run_id,
        "status": run.status,
        "goal": run.goal,
        "context": run.context,
        "output": run.output,
        "reason": run.reason,
        "steps": run.steps,
        "events": run.events,
        "head_hash": run.head_hash.hex(),
        "priority": run.priority,
        "max_steps": run.max_steps,
        "model": run.model,
        "max_tokens": run.max_tokens,
        "max_cost_usd": _dollars(run.max_cost),
        "usage": _tokens(run.used),
        "cost_usd": _cost(run.used),
        "metadata": None if run.metadata is None else wire_form(run.metadata),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "not_before": run.not_before,
        "deadline_at": run.deadline_at,
        "cancel_requested": run.cancel_requested,
        "pruned_at": run.pruned_at,
    }


def run_page(page: RunPage) -> dict[str, Any]:
    """Return some runs as `RunList` states them."""
    return {"runs": [resource(run) for run in page.runs], "next_cursor": page.next_cursor}


def trace_page(trace: Trace) -> dict[str, Any]:
    """Return some steps as `TraceModel` states them."""
    return {
        "run_id": trace.run.run_id,
        "status": trace.run.status,
        "output": trace.run.output,
        "model": trace.run.model,
        "usage": _tokens(trace.run.used),
        "cost_usd": _cost(trace.run.used),
        "trace": wire_trace(trace.steps),
        "decisions": [
            {
                "turn": decision.turn,
                "model": decision.model,
                "steps": decision.steps,
                "usage": None if decision.usage is None else _tokens(decision.usage),
                "cost_usd": _dollars(decision.cost),
            }
            for decision in trace.decisions
        ],
        "next_after": trace.next_after,
    }


def event_page(run: Run, events: Sequence[StoredEvent]) -> dict[str, Any]:
    """Return some events as `EventPage` states them, bodies verbatim."""
    last = events[-1].seq if events else run.events
    return {
        "run_id": run.run_id,
        "status": run.status,
        "head_seq": run.events,
        "head_hash": run.head_hash.hex(),
        "events": [
            {
                "seq": event.seq,
                "type": event_type(event.body),
                "prev_hash": event.prev_hash.hex(),
                "hash": event.hash.hex(),
                "body": event.body,
            }
            for event in events
        ],
        "next_after": last if last < run.events else None,
    }


def usage(report: UsageReport) -> dict[str, Any]:
    """Return what was used as `UsageList` states it."""
    return {
        "by": report.by,
        "from": report.first,
        "to": report.last,
        "usage": [{"group": group, **_sums(used)} for group, used in report.groups],
        "total": _sums(report.total),
    }


def _sums(used: Used) -> dict[str, Any]:
    return {
        "calls": used.calls,
        **_tokens(used),
        "cost_usd": _dollars(used.cost),
        "unpriced_calls": used.unpriced_calls,
    }


def _tokens(counted: Used | Usage) -> dict[str, int]:
    return {
        "input_tokens": counted.input_tokens,
        "output_tokens": counted.output_tokens,
        "cache_read_tokens": counted.cache_read_tokens,
        "cache_write_tokens": counted.cache_write_tokens,
    }


def _cost(used: Used) -> msgspec.Raw | None:
    return None if used.unpriced_calls else _dollars(used.cost)


def _dollars(nano: int | None) -> msgspec.Raw | None:
    """Return a sum as a JSON number with all its digits, which floating-point would lose."""
    return None if nano is None else msgspec.Raw(f"{to_usd(nano):f}".rstrip("0").rstrip(".").encode())
