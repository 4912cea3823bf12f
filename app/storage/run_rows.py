"""Runs as they are read: the row with its first and its last event, and the value made of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, select

from ..agent.events import Event, RunFinished, RunStarted
from ..runs import codec
from ..runs.models import Run, StoredEvent
from .dialect import read_text, stored_text
from .moments import EPOCH, MICROSECOND, from_us
from .tables import events, runs
from .usage import read_used, used_by_run

_first = events.alias("first_event")
_last = events.alias("last_event")


def _event_of_run(event: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(event.c.tenant == runs.c.tenant, event.c.run_id == runs.c.id, *conditions)


SELECT_RUNS: Final[Select[Any]] = select(
    runs,
    stored_text(_first.c.body).label("first_body"),
    stored_text(_last.c.body).label("last_body"),
    used_by_run.label("used"),
).select_from(
    runs.outerjoin(_first, _event_of_run(_first, _first.c.seq == 1)).outerjoin(
        _last, _event_of_run(_last, _last.c.seq == runs.c.head_seq, runs.c.finished_at.is_not(None))
    )
)
"""Rows for `to_run`: what a run was asked stands in its first event, what came of it in its last."""


def to_run(row: Row[Any]) -> Run:
    """Return the run of a row of SELECT_RUNS."""
    first, last = _read(row.first_body), _read(row.last_body)
    opening = first if isinstance(first, RunStarted) else None
    closing = last if isinstance(last, RunFinished) else None
    return Run(
        run_id=row.id,
        status=row.status,
        goal=opening.goal if opening else None,
        context=opening.context if opening else None,
        output=closing.output if closing else None,
        reason=closing.reason if closing else None,
        steps=row.steps,
        events=row.head_seq,
        head_hash=row.head_hash,
        priority=row.priority,
        max_steps=opening.max_steps if opening else None,
        metadata=None if row.metadata is None else msgspec.json.decode(row.metadata),
        created_at=EPOCH + row.created_at * MICROSECOND,
        started_at=from_us(row.started_at),
        finished_at=from_us(row.finished_at),
        not_before=from_us(row.not_before),
        deadline_at=from_us(row.deadline_at),
        cancel_requested=bool(row.cancel_requested),
        pruned_at=from_us(row.pruned_at),
        tenant=row.tenant,
        model=opening.model if opening else None,
        max_tokens=opening.max_tokens if opening else None,
        max_cost=opening.max_cost if opening else None,
        used=read_used(row.used),
    )


def _read(stored: Any) -> Event | None:
    """Return an event; None if there is none, or none that can be read: a listing does not fail for one run."""
    if stored is None:
        return None
    try:
        return codec.read(StoredEvent(0, read_text(stored), b"", b"")).event
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
