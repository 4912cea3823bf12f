"""The trace of a run, read from its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec

from ..agent.events import Event, ModelDecided, Step, ToolCompleted, ToolIntended, ToolInterrupted, ToolResolved
from ..errors import RunNotFoundError, RunPrunedError
from .codec import read
from .models import Decision, FinishedRun, Run, RunKey, Trace
from .ports import RunStore

PAGE: Final = 500

MAX_TRACE_BYTES: Final = 4 * 1024 * 1024
"""How much of a trace is given at once: a thousand steps of the largest kind are a quarter of a gigabyte."""

_encode = msgspec.json.Encoder().encode


async def finished(store: RunStore, run: Run) -> FinishedRun:
    """Return a run that has ended as whoever waited for it gets it.

    Raises:
        RunPrunedError: its events are gone.
    """
    assert run.status == "success" or run.status == "error" or run.status == "cancelled"
    steps = [found async for found in _found(store, run) if isinstance(found, Step)]
    return FinishedRun(run.run_id, run.status, run.output or "", steps)


async def trace_of(store: RunStore, run: Run, after: int, limit: int) -> Trace:
    """Return at most `limit` steps of a run beyond number `after`, and no more than about MAX_TRACE_BYTES of them.

    Raises:
        RunPrunedError: its events are gone.
    """
    steps: list[Step] = []
    decisions: list[Decision] = []
    decided: ModelDecided | None = None
    size = 0
    async for found in _found(store, run):
        if isinstance(found, ModelDecided):
            decided = found
            if not found.tool_calls:
                decisions.append(_decision(found))
            continue
        if steps and (len(steps) == limit or size > MAX_TRACE_BYTES):
            return Trace(run, steps, steps[-1].step, decisions)
        if found.step > after:
            steps.append(found)
            size += len(_encode(found))
            if decided is not None:
                if not decisions or decisions[-1].turn != decided.turn:
                    decisions.append(_decision(decided))
                decisions[-1].steps.append(found.step)
    return Trace(run, steps, None, decisions)


def _decision(decided: ModelDecided) -> Decision:
    return Decision(decided.turn, decided.model, [], decided.usage, decided.cost)


async def _found(store: RunStore, run: Run) -> AsyncIterator[Step | ModelDecided]:
    """Yield decisions and completed steps in their order, and at last the step that is in doubt, if one is."""
    if run.pruned_at is not None:
        raise pruned(run)
    intended: ToolIntended | None = None
    doubtful: Step | None = None
    async for event, at in _events(store, RunKey(run.tenant, run.run_id)):
        if isinstance(event, ToolCompleted):
            doubtful = None
            yield event.step
        elif isinstance(event, ModelDecided):
            yield event
        elif isinstance(event, ToolIntended):
            intended = event
        elif isinstance(event, ToolInterrupted) and event.in_doubt and intended is not None:
            error = f"in_doubt: {event.reason} Whether it had its effect is unknown."
            doubtful = Step(event.step, event.tool, intended.input, None, error, at)
        elif isinstance(event, ToolResolved):
            doubtful = None
    if doubtful is not None:
        yield doubtful


async def _events(store: RunStore, key: RunKey) -> AsyncIterator[tuple[Event, datetime]]:
    seq = 0
    while page := await store.events(key, seq, PAGE):
        for stored in page:
            envelope = read(stored)
            yield envelope.event, envelope.at
        seq = page[-1].seq


def not_found(run_id: str) -> RunNotFoundError:
    """Say that there is no such run."""
    return RunNotFoundError(f"There is no run {run_id[:64]!r}.")


def pruned(run: Run) -> RunPrunedError:
    """Say that a run's events are gone."""
    return RunPrunedError(
        f"The events of the run {run.run_id} were pruned; the hash of its last one was {run.head_hash.hex()}."
    )
